/** The frame of every view: navigation, who you are, theme and times. */
import { Link, Outlet } from "@tanstack/react-router";
import { Component, lazy, Suspense, useEffect, useState, type ReactNode } from "react";
import { Provider, useQuery } from "urql";
import { ShellViewerDocument } from "~api";
import { api, endpoint } from "./api";
import { VIEWS } from "./views";
import { Failure } from "./notices";
import { usePreferences, type Theme, type TimeStyle } from "./preferences";
import { useSession } from "./session";
import { SignIn } from "./sign_in";

const CommandPalette = lazy(() => import("./command_palette"));

const NEXT_THEME: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const NEXT_TIMES: Record<TimeStyle, TimeStyle> = { relative: "local", local: "utc", utc: "relative" };

export function Shell() {
  return (
    <Provider value={api}>
      <Frame />
    </Provider>
  );
}

/** Everything is read again when the caller has changed. */
function Frame() {
  const turn = useSession((session) => session.turn);
  return (
    <div className="app" key={turn}>
      <AppBar />
      <Content />
      <Commands />
    </div>
  );
}

/** The command palette by Mod+K, and the sheet of shortcuts by ?. */
function Commands() {
  const [open, setOpen] = useState<"commands" | "shortcuts">();
  const isUnknown = useSession((session) => session.isUnknown);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]") !== null;
      const wanted = (event.ctrlKey || event.metaKey) && event.key === "k" ? "commands" : event.key === "?" && !isTyping ? "shortcuts" : undefined;
      if (wanted === undefined || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      setOpen(wanted);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  if (open === undefined || isUnknown) return null;
  return (
    <Suspense>
      <CommandPalette key={open} isSheet={open === "shortcuts"} onSheet={() => setOpen("shortcuts")} onClose={() => setOpen(undefined)} />
    </Suspense>
  );
}

function Content() {
  const isUnknown = useSession((session) => session.isUnknown);
  if (isUnknown) return <SignIn />;
  return (
    <main className="app-main">
      <Fence>
        <Outlet />
      </Fence>
    </main>
  );
}

function AppBar() {
  const { theme, times, setTheme, setTimes } = usePreferences();
  return (
    <header className="app-bar">
      <Link to="/" className="brand">
        <svg viewBox="0 0 16 16" aria-hidden="true" fill="none" stroke="currentColor" strokeWidth="1.8">
          <circle cx="8" cy="8" r="6" />
          <path d="M8 2v12M2 8h12" />
        </svg>
        Treadle
      </Link>
      <nav aria-label="Main">
        {Object.entries(VIEWS).map(([title, to]) => (
          <Link key={to} to={to}>
            {title}
          </Link>
        ))}
        <a href={endpoint.href}>GraphiQL</a>
      </nav>
      <Who />
      <button type="button" className="quiet" onClick={() => setTimes(NEXT_TIMES[times])} title="How times are written">
        <span className="visually-hidden">Times: </span>
        {{ relative: "Ago", local: "Local", utc: "UTC" }[times]}
      </button>
      <button type="button" className="quiet" onClick={() => setTheme(NEXT_THEME[theme])} title="Light or dark">
        <span className="visually-hidden">Theme: </span>
        {{ system: "Auto", light: "Light", dark: "Dark" }[theme]}
      </button>
    </header>
  );
}

function Who() {
  const [{ data }] = useQuery({ query: ShellViewerDocument });
  if (!data?.viewer) return null;
  return (
    <span className="faint" title={`Treadle ${data.viewer.server.version}`}>
      {data.viewer.subject}
    </span>
  );
}

/** Shows a fault of the page instead of an empty page. */
class Fence extends Component<{ children: ReactNode }, { error?: Error }> {
  override state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    return (
      <div className="view">
        <Failure title="This view has failed" text={`${error.message}\nReload the page. Unsaved edits are kept in this browser.`} onRetry={() => location.reload()} />
      </div>
    );
  }
}
