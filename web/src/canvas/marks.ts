/** What is shown on nodes and edges beside the spec: their states in a run, and their problems. Read one by one. */
import { createContext, useContext, useMemo } from "react";
import { useStore, type StoreApi } from "zustand";
import { createStore } from "zustand/vanilla";
import type { EdgeState, FieldProblem, NodeState } from "@treadle/client";

export interface Marks {
  readonly nodes: ReadonlyMap<string, NodeState>;
  readonly edges: ReadonlyMap<string, EdgeState>;
  readonly problems: ReadonlyMap<string, FieldProblem>;
}

const NONE: Marks = { nodes: new Map(), edges: new Map(), problems: new Map() };

export const MarksContext = createContext<StoreApi<Marks>>(createStore(() => NONE));

/** A store of marks for one canvas. */
export function useMarks(): StoreApi<Marks> {
  return useMemo(() => createStore(() => NONE), []);
}

export function useNodeMark(id: string): { state: NodeState | undefined; problem: FieldProblem | undefined } {
  const store = useContext(MarksContext);
  const state = useStore(store, ({ nodes }) => nodes.get(id));
  const problem = useStore(store, ({ problems }) => problems.get(id));
  return { state, problem };
}

export function useEdgeMark(id: string): EdgeState | undefined {
  return useStore(useContext(MarksContext), ({ edges }) => edges.get(id));
}
