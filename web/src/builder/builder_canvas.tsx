/** The canvas of the draft. Every gesture becomes one edit of the draft. */
import "@xyflow/react/dist/style.css";
import "~/canvas/canvas.css";
import {
  Background, Controls, MiniMap, ReactFlow, SelectionMode, useReactFlow,
  type Connection, type Edge, type EdgeChange, type FinalConnectionState, type NodeChange,
} from "@xyflow/react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { StoreApi } from "zustand";
import { FlowParts } from "~/canvas/flow";
import { MarksContext, type Marks } from "~/canvas/marks";
import type { CardNode } from "~/canvas/node_card";
import type { NodeTypes } from "~/canvas/node_types";
import { EDGE_TYPES, FIT, NODE_TYPES } from "~/canvas/run_canvas";
import { useCards } from "~/canvas/use_cards";
import { connect, reconnect, type Connection as SpecConnection } from "./edits/edges";
import { deleteParts, moveNodes } from "./edits/nodes";
import type { Point, Spec } from "./spec";

export interface Selection {
  readonly nodes: ReadonlySet<string>;
  readonly edges: ReadonlySet<string>;
}

interface BuilderCanvasProps {
  readonly spec: Spec;
  readonly types: NodeTypes;
  readonly marks: StoreApi<Marks>;
  readonly selection: Selection;
  readonly onSelect: (selection: Selection) => void;
  readonly onEdit: (change: (spec: Spec) => Spec, gesture?: string) => void;
  /** A connection was dropped on the empty canvas. */
  readonly onDropped: (from: { source: string; port: string | undefined }, at: Point) => void;
}

const DELETE_KEYS = ["Delete", "Backspace"];
const ADD_KEYS = ["Shift", "Meta", "Control"];

function connectionOf({ source, target, sourceHandle }: Connection | Edge): SpecConnection {
  return { source, target, port: sourceHandle ?? undefined };
}

export function BuilderCanvas({ spec, types, marks, selection, onSelect, onEdit, onDropped }: BuilderCanvasProps) {
  const parts = useMemo(() => new FlowParts(), []);
  const cards = useMemo(() => parts.cards(spec, types), [parts, spec, types]);
  const [nodes, changeNodes] = useCards(cards, selection.nodes);
  const flowEdges = useMemo(() => parts.edges(spec), [parts, spec]);
  const edges = useMemo(
    () => flowEdges.map((edge) => (selection.edges.has(edge.id) ? { ...edge, selected: true } : edge)),
    [flowEdges, selection.edges],
  );
  const { screenToFlowPosition } = useReactFlow();
  const latest = useRef(selection);
  useEffect(() => void (latest.current = selection), [selection]);
  const [isMoving, setMoving] = useState(false);

  const select = useCallback(
    (nodeIds: Set<string>, edgeIds: Set<string>) => {
      latest.current = { nodes: nodeIds, edges: edgeIds };
      onSelect(latest.current);
    },
    [onSelect],
  );
  const onNodesChange = useCallback(
    (changes: NodeChange<CardNode>[]) => {
      changeNodes(changes.filter(({ type }) => type !== "select" && type !== "remove"));
      const chosen = new Set(latest.current.nodes);
      for (const change of changes) if (change.type === "select") change.selected ? chosen.add(change.id) : chosen.delete(change.id);
      if (changes.some(({ type }) => type === "select")) select(chosen, new Set(latest.current.edges));
      // Arrow keys move without a drag.
      const moved = changes.filter((change) => change.type === "position" && change.dragging === false && change.position !== undefined);
      if (!isMoving && moved.length > 0) {
        const places = new Map(moved.map((change) => [(change as { id: string }).id, rounded((change as { position: Point }).position)]));
        onEdit((now) => moveNodes(now, places), `move ${[...places.keys()].join(" ")}`);
      }
    },
    [changeNodes, select, onEdit, isMoving],
  );
  const onEdgesChange = useCallback(
    (changes: EdgeChange[]) => {
      if (!changes.some(({ type }) => type === "select")) return;
      const chosen = new Set(latest.current.edges);
      for (const change of changes) if (change.type === "select") change.selected ? chosen.add(change.id) : chosen.delete(change.id);
      select(new Set(latest.current.nodes), chosen);
    },
    [select],
  );
  const onDelete = useCallback(
    ({ nodes: gone, edges: cut }: { nodes: readonly CardNode[]; edges: readonly Edge[] }) => {
      onEdit((now) => deleteParts(now, new Set(gone.map(({ id }) => id)), new Set(cut.map(({ id }) => id))));
      select(new Set(), new Set());
    },
    [onEdit, select],
  );
  const onConnectEnd = useCallback(
    (event: MouseEvent | TouchEvent, state: FinalConnectionState) => {
      if (state.isValid || state.toNode || !state.fromNode || state.fromHandle?.type !== "source") return;
      const { clientX: x, clientY: y } = "changedTouches" in event ? event.changedTouches[0]! : event;
      onDropped({ source: state.fromNode.id, port: state.fromHandle.id ?? undefined }, rounded(screenToFlowPosition({ x, y })));
    },
    [onDropped, screenToFlowPosition],
  );
  return (
    <MarksContext value={marks}>
      <div className="canvas" role="region" aria-label="Canvas">
        <ReactFlow<CardNode>
          nodes={nodes}
          edges={edges}
          nodeTypes={NODE_TYPES}
          edgeTypes={EDGE_TYPES}
          onNodesChange={onNodesChange}
          onEdgesChange={onEdgesChange}
          onNodeDragStart={() => setMoving(true)}
          onNodeDragStop={(_, __, dragged) => {
            setMoving(false);
            const places = new Map(dragged.map(({ id, position }) => [id, rounded(position)]));
            onEdit((now) => moveNodes(now, places));
          }}
          onConnect={(connection) => onEdit((now) => connect(now, connectionOf(connection)))}
          onReconnect={(edge, connection) => onEdit((now) => reconnect(now, edge.id, connectionOf(connection)))}
          onConnectEnd={onConnectEnd}
          onDelete={onDelete}
          deleteKeyCode={DELETE_KEYS}
          multiSelectionKeyCode={ADD_KEYS}
          selectionMode={SelectionMode.Partial}
          snapToGrid={false}
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

function rounded({ x, y }: Point): Point {
  return { x: Math.round(x), y: Math.round(y) };
}
