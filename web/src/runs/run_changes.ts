/** Changes of the runs that a list shows. */
import { useEffect, useRef } from "react";
import { useClient } from "urql";
import { RunListChangesDocument, type RunFilter } from "~api";
import { throttled } from "./throttle";

const PAUSE_MS = 1000;

/** Call `onChange` when a run of the list has changed, at most once a second. The cache changes the shown rows itself. */
export function useRunChanges(filter: RunFilter, projectId: string | undefined, onChange: () => void): void {
  const client = useClient();
  const latest = useRef(onChange);
  useEffect(() => void (latest.current = onChange));
  // A run that leaves a status has to leave the list, so its changes are followed in every status.
  const { status: _, errorCode: __, ...watched } = filter;
  const text = JSON.stringify({ filter: watched, ...(projectId ? { projectId } : {}) });
  useEffect(() => {
    const change = throttled(() => latest.current(), (run) => setTimeout(run, PAUSE_MS));
    const { unsubscribe } = client.subscription(RunListChangesDocument, JSON.parse(text)).subscribe(({ data }) => data && change());
    return unsubscribe;
  }, [client, text]);
}
