/** The graph that is laid out, and the places that follow from its layout. A worker computes the layout itself. */
import { portsOf } from "./ports";
import { positionOf, type Point, type Spec, type SpecNode } from "../spec";
import type { NodeTypes } from "~/canvas/node_types";
import { ROW } from "./place";

/** Which nodes are laid out: those that have no place, those that are chosen, or all of them. */
export type Scope = { readonly kind: "unplaced" } | { readonly kind: "all" } | { readonly kind: "chosen"; readonly ids: ReadonlySet<string> };

export interface LayoutPort {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly layoutOptions: Record<string, string>;
}

export interface LayoutNode {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly ports: readonly LayoutPort[];
  readonly layoutOptions: Record<string, string>;
}

export interface LayoutGraph {
  readonly id: string;
  readonly layoutOptions: Record<string, string>;
  readonly children: readonly LayoutNode[];
  readonly edges: ReadonlyArray<{ readonly id: string; readonly sources: string[]; readonly targets: string[] }>;
}

/** A graph with the places that the worker has computed. */
export interface LaidOut {
  readonly children?: ReadonlyArray<{ readonly id: string; readonly x?: number; readonly y?: number }>;
}

const WIDTH = 168;
const HEAD = 48;
const PORT = 18;
const OPTIONS = {
  "elk.algorithm": "layered",
  "elk.direction": "RIGHT",
  "elk.separateConnectedComponents": "true",
  "elk.spacing.nodeNode": "36",
  "elk.spacing.componentComponent": "56",
  "elk.layered.spacing.nodeNodeBetweenLayers": "64",
  // The canvas draws the edges itself. The usual routes cost a second for a thousand edges.
  "elk.edgeRouting": "POLYLINE",
};

/** Return the nodes that a layout may move. */
export function movable(spec: Spec, scope: Scope): readonly SpecNode[] {
  if (scope.kind === "all") return spec.nodes;
  if (scope.kind === "chosen") return spec.nodes.filter(({ id }) => scope.ids.has(id));
  return spec.nodes.filter((node) => positionOf(node) === undefined);
}

/** Return the graph of these nodes and the edges between them. Edges leave by ports in the order of the card. */
export function graphOf(spec: Spec, nodes: readonly SpecNode[], types: NodeTypes): LayoutGraph {
  const ids = new Set(nodes.map(({ id }) => id));
  const used = new Map<string, Set<string>>();
  for (const { source, port } of spec.edges) if (typeof port === "string") used.set(source, (used.get(source) ?? new Set()).add(port));
  const children = nodes.map((node) => childOf(node, types, used.get(node.id) ?? new Set()));
  const ports = new Set(children.flatMap((child) => child.ports.map(({ id }) => id)));
  const edges = spec.edges
    .filter(({ source, target }) => ids.has(source) && ids.has(target) && source !== target)
    .map(({ id, source, target, port }) => {
      const leaves = portId(source, typeof port === "string" ? port : undefined);
      return { id, sources: [ports.has(leaves) ? leaves : source], targets: [target] };
    });
  return { id: "root", layoutOptions: OPTIONS, children, edges };
}

function portId(node: string, port: string | undefined): string {
  return `${node} ${port ?? ""}`;
}

function childOf(node: SpecNode, types: NodeTypes, used: ReadonlySet<string>): LayoutNode {
  const named = portsOf(node, types.get(node.type), used);
  const height = HEAD + named.length * PORT;
  if (named.length === 0) return { id: node.id, width: WIDTH, height, ports: [], layoutOptions: {} };
  // The order of ports is clockwise, so it goes down on the right side.
  const ports = [undefined, ...named.map(({ name }) => name)].map((name, index) => ({
    id: portId(node.id, name),
    width: 1,
    height: 1,
    layoutOptions: { "elk.port.side": "EAST", "elk.port.index": String(index) },
  }));
  return { id: node.id, width: WIDTH, height, ports, layoutOptions: { "elk.portConstraints": "FIXED_ORDER" } };
}

/**
 * Return the places of the laid out nodes. The nodes of a selection keep the corner of where they stood. Nodes that had
 * no place come below those that have one, so that nothing stands on another node.
 */
export function placesOfLayout(spec: Spec, scope: Scope, laidOut: LaidOut, places: ReadonlyMap<string, Point>): ReadonlyMap<string, Point> {
  const children = laidOut.children ?? [];
  const computed = children.map(({ id, x, y }) => ({ id, x: x ?? 0, y: y ?? 0 }));
  const from = cornerOf(computed);
  const to = originOf(spec, scope, computed, places);
  return new Map(computed.map(({ id, x, y }) => [id, { x: Math.round(x - from.x + to.x), y: Math.round(y - from.y + to.y) }]));
}

function originOf(spec: Spec, scope: Scope, computed: ReadonlyArray<{ id: string }>, places: ReadonlyMap<string, Point>): Point {
  if (scope.kind !== "unplaced") return cornerOf(computed.flatMap(({ id }) => places.get(id) ?? []));
  const fixed = spec.nodes.flatMap((node) => positionOf(node) ?? []);
  if (fixed.length === 0) return { x: 0, y: 0 };
  return { x: cornerOf(fixed).x, y: fixed.reduce((lowest, { y }) => Math.max(lowest, y), -Infinity) + 2 * ROW };
}

function cornerOf(points: readonly Point[]): Point {
  if (points.length === 0) return { x: 0, y: 0 };
  return points.reduce((least, { x, y }) => ({ x: Math.min(least.x, x), y: Math.min(least.y, y) }), { x: Infinity, y: Infinity });
}
