/**
 * Who the person at the browser is: an access token of this tab, or the session of the browser, which is a cookie that the
 * page cannot read. `/auth/session` says how to sign in.
 */
import { create } from "zustand";

const STORED = "treadle:token";

/** The answer of `/auth/session`. */
interface Answer {
  readonly mode: "local" | "token" | "oidc";
  readonly subject: string | null;
  readonly signInUrl: string | null;
  readonly signOutUrl: string | null;
}

interface Session {
  /** A token that was pasted, for this browser tab only. */
  readonly token: string | undefined;
  /** Whether the server has refused an operation because it does not know the caller, and no session can be renewed. */
  readonly isUnknown: boolean;
  readonly signInUrl: string | undefined;
  readonly signOutUrl: string | undefined;
  /** Rises when the caller has changed, so that everything is read again. */
  readonly turn: number;
  signIn(token: string): void;
  signOut(): void;
  /** Ask the server how to go on after a refused operation. */
  refused(): Promise<void>;
}

async function askServer(): Promise<Answer | undefined> {
  const response = await fetch(new URL("auth/session", document.baseURI), { headers: { Accept: "application/json" } });
  return response.ok ? ((await response.json()) as Answer) : undefined;
}

let asking: Promise<Answer | undefined> | undefined;

export const useSession = create<Session>((set, get) => ({
  token: sessionStorage.getItem(STORED) ?? undefined,
  isUnknown: false,
  signInUrl: undefined,
  signOutUrl: undefined,
  turn: 0,
  signIn: (token) => {
    sessionStorage.setItem(STORED, token);
    set(({ turn }) => ({ token, isUnknown: false, turn: turn + 1 }));
  },
  signOut: () => {
    sessionStorage.removeItem(STORED);
    set({ token: undefined, isUnknown: true });
  },
  refused: async () => {
    if (asking !== undefined || get().isUnknown) return;
    asking = askServer().catch(() => undefined);
    const answer = await asking;
    asking = undefined;
    const isRenewed = answer?.subject != null && get().token === undefined;
    set(({ turn }) => ({
      isUnknown: !isRenewed,
      turn: isRenewed ? turn + 1 : turn,
      signInUrl: answer?.signInUrl ?? undefined,
      signOutUrl: answer?.signOutUrl ?? undefined,
    }));
  },
}));

/** The headers of an operation. */
export function authorization(): Record<string, string> {
  const { token } = useSession.getState();
  return token === undefined ? {} : { Authorization: `Bearer ${token}` };
}

/** The address that signs in by the browser and comes back to this view. */
export function signInAddress(signInUrl: string): string {
  const address = new URL(signInUrl, document.baseURI);
  address.searchParams.set("returnTo", location.pathname + location.search);
  return address.href;
}
