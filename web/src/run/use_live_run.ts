/** The live run of a view, followed while the view shows it. */
import { useEffect, useState } from "react";
import { createStore } from "zustand/vanilla";
import type { StoreApi } from "zustand";
import type { Marks } from "~/canvas/marks";
import { followRun, type LiveRun, type LiveStore } from "./live_run";

const NOTHING: LiveStore = createStore<LiveRun>(() => ({
  status: undefined, progress: 0, nodes: new Map(), edges: new Map(), texts: new Map(), log: [],
  connection: "connecting", problem: undefined, milestone: 0,
}));

/** Follow a run, and show its states on the canvas that `marks` belongs to. */
export function useLiveRun(runId: string | undefined, marks: StoreApi<Marks>): LiveStore {
  const [store, setStore] = useState<LiveStore>(NOTHING);
  useEffect(() => {
    if (runId === undefined) {
      setStore(NOTHING);
      return undefined;
    }
    const stop = new AbortController();
    const followed = followRun(runId, stop.signal);
    setStore(followed);
    const unsubscribe = followed.subscribe(({ nodes, edges }) => marks.setState({ nodes, edges }));
    return () => {
      stop.abort();
      unsubscribe();
      marks.setState({ nodes: new Map(), edges: new Map() });
    };
  }, [runId, marks]);
  return store;
}
