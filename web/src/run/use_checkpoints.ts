/** The checkpoints of a run, oldest first, read again when it goes on; and its states at one of them. */
import { useEffect, useMemo, useState } from "react";
import { useClient, useQuery } from "urql";
import { createStore } from "zustand/vanilla";
import { CheckpointStatesDocument, RunCheckpointsDocument } from "~api";
import type { Marks } from "~/canvas/marks";
import type { Position } from "./past";

/** Checkpoints of a longer run behind these are not on the slider. */
const MAX_PAGES = 20;
const NONE: readonly Position[] = [];

export function useCheckpoints(runId: string, status: string | undefined): readonly Position[] {
  const client = useClient();
  const [shown, setShown] = useState<{ runId: string; positions: readonly Position[] }>();
  useEffect(() => {
    let isCurrent = true;
    const read = async () => {
      const positions: Position[] = [];
      let after: string | undefined;
      for (let page = 0; page < MAX_PAGES; page += 1) {
        const variables = { id: runId, ...(after === undefined ? {} : { after }) };
        const { data } = await client.query(RunCheckpointsDocument, variables, { requestPolicy: "network-only" });
        const checkpoints = data?.run?.checkpoints;
        if (!isCurrent || !checkpoints) return;
        positions.push(...checkpoints.nodes);
        if (!checkpoints.pageInfo.hasNextPage || !checkpoints.pageInfo.endCursor) break;
        after = checkpoints.pageInfo.endCursor;
      }
      setShown({ runId, positions: positions.sort((a, b) => a.seq - b.seq) });
    };
    if (status !== undefined) void read();
    return () => void (isCurrent = false);
  }, [client, runId, status]);
  return shown?.runId === runId ? shown.positions : NONE;
}

/** Return the states at a checkpoint for the canvas; undefined for now, and while they are read. */
export function usePast(runId: string, checkpointId: string | undefined) {
  const [{ data }] = useQuery({
    query: CheckpointStatesDocument,
    variables: { id: runId, checkpointId: checkpointId ?? "" },
    pause: checkpointId === undefined,
    requestPolicy: "cache-first",
  });
  const checkpoint = data?.run?.checkpoint;
  return useMemo(() => {
    if (!checkpoint || checkpoint.id !== checkpointId) return undefined;
    const marks = createStore<Marks>(() => ({
      nodes: new Map(checkpoint.nodeStates.map((state) => [state.nodeId, { ...state, partialOutput: null, output: null, error: null, usage: null, edgeStates: [] }])),
      edges: new Map(checkpoint.edgeStates.map((state) => [state.edgeId, state])),
      problems: new Map(),
    }));
    return { marks, completedNodes: checkpoint.completedNodes };
  }, [checkpoint, checkpointId]);
}
