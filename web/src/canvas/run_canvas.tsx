/** The canvas of a run: the spec that it executes, with the state of each node and edge. It cannot be edited. */
import "@xyflow/react/dist/style.css";
import "./canvas.css";
import { Background, Controls, MiniMap, ReactFlow, type NodeMouseHandler } from "@xyflow/react";
import { useMemo } from "react";
import type { StoreApi } from "zustand";
import type { Spec } from "~/builder/spec";
import { FlowParts } from "./flow";
import { MarksContext, type Marks } from "./marks";
import { NodeCard } from "./node_card";
import { useNodeTypes } from "./node_types";
import { useCards } from "./use_cards";
import { StateEdge } from "./state_edge";

export const NODE_TYPES = { card: NodeCard };
export const EDGE_TYPES = { state: StateEdge };
export const FIT = { maxZoom: 1, padding: 0.06 };

interface RunCanvasProps {
  readonly spec: Spec;
  readonly marks: StoreApi<Marks>;
  readonly selected: string | undefined;
  readonly onSelect: (id: string | undefined) => void;
}

export function RunCanvas({ spec, marks, selected, onSelect }: RunCanvasProps) {
  const types = useNodeTypes();
  const parts = useMemo(() => new FlowParts(), []);
  const cards = useMemo(() => parts.cards(spec, types), [parts, spec, types]);
  const chosen = useMemo(() => new Set(selected === undefined ? [] : [selected]), [selected]);
  const [nodes, changeNodes] = useCards(cards, chosen);
  const edges = useMemo(() => parts.edges(spec), [parts, spec]);
  const click: NodeMouseHandler = (_, node) => onSelect(node.id);
  return (
    <MarksContext value={marks}>
      <div className="canvas" aria-label="Canvas of the run">
        <ReactFlow
          nodes={nodes}
          edges={edges}
          nodeTypes={NODE_TYPES}
          edgeTypes={EDGE_TYPES}
          onNodeClick={click}
          onNodesChange={(changes) => {
            changeNodes(changes.filter(({ type }) => type === "dimensions"));
            for (const change of changes) if (change.type === "select" && change.selected) onSelect(change.id);
          }}
          onPaneClick={() => onSelect(undefined)}
          nodesDraggable={false}
          nodesConnectable={false}
          edgesFocusable={false}
          fitView
          fitViewOptions={FIT}
          minZoom={0.1}
          onlyRenderVisibleElements={spec.nodes.length > 150}
        >
          <Background />
          <Controls showInteractive={false} fitViewOptions={FIT} />
          {spec.nodes.length > 8 && <MiniMap pannable zoomable />}
        </ReactFlow>
      </div>
    </MarksContext>
  );
}
