// The sign-in of this browser: docs/sign_in.md, "Browsers". The page sees no token: the session is a cookie.

/**
 * Return who is signed in, as /auth/session says it. If this server signs browsers in and nobody is signed in, leave the
 * page for the issuer, and never return.
 */
export async function currentSession() {
  const session = await readSession();
  if (session.mode !== "oidc" || session.subject !== null) return session;
  location.assign(`${session.signInUrl}?returnTo=${encodeURIComponent(location.pathname + location.search)}`);
  return new Promise(() => {});
}

async function readSession() {
  try {
    const response = await fetch(new URL("auth/session", location.href));
    if (response.ok) return await response.json();
  } catch {
    // The server is away. The page opens all the same, and each operation says so.
  }
  return { mode: "local", subject: null, expiresAt: null, signInUrl: null, signOutUrl: null };
}
