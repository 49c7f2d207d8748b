/** Lays nodes out as one edit, which can be undone. What is edited during the layout is kept. */
import { useCallback, useState } from "react";
import type { NodeTypes } from "~/canvas/node_types";
import type { DraftStore } from "./draft_store";
import { graphOf, movable, placesOfLayout, type Scope } from "./edits/layout";
import { moveNodes } from "./edits/nodes";
import { placesOf } from "./edits/place";
import type { Edit } from "./node_panel";

interface Arrange {
  readonly isBusy: boolean;
  readonly problem: string | undefined;
  readonly arrange: (scope: Scope) => Promise<void>;
}

export function useArrange(store: DraftStore, types: NodeTypes, onEdit: Edit): Arrange {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();
  const arrange = useCallback(
    async (scope: Scope) => {
      const spec = store.getState().history.present;
      const nodes = movable(spec, scope);
      if (nodes.length === 0) return;
      setBusy(true);
      setProblem(undefined);
      try {
        const { layout } = await import("./layout_worker");
        const places = placesOfLayout(spec, scope, await layout(graphOf(spec, nodes, types)), placesOf(spec));
        onEdit((now) => moveNodes(now, places));
      } catch (error) {
        setProblem(`The nodes could not be arranged: ${String(error)}`);
      } finally {
        setBusy(false);
      }
    },
    [store, types, onEdit],
  );
  return { isBusy, problem, arrange };
}
