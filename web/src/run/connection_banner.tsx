/** Says when what is shown of a run is not current. */
import { useStore } from "zustand";
import type { LiveStore } from "./live_run";

export function ConnectionBanner({ live }: { live: LiveStore }) {
  const connection = useStore(live, (state) => state.connection);
  const problem = useStore(live, (state) => state.problem);
  if (connection === "lost") {
    return (
      <div className="banner" role="status">
        The connection is lost. What you see may be old. The page connects again by itself, and misses nothing.
      </div>
    );
  }
  if (connection === "refused") {
    return (
      <div className="banner is-failure" role="alert">
        The run cannot be followed: {problem}
      </div>
    );
  }
  return null;
}
