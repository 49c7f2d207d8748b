/** The spec of a workflow as the builder edits it. Members that it does not know are kept as they are. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { readonly [name: string]: unknown };

export interface SpecNode extends JsonObject {
  readonly id: string;
  readonly type: string;
  readonly label?: string;
  readonly config?: JsonObject;
}

export interface SpecEdge extends JsonObject {
  readonly id: string;
  readonly source: string;
  readonly target: string;
  readonly port?: string;
  readonly condition?: string;
}

export interface Spec extends JsonObject {
  readonly nodes: readonly SpecNode[];
  readonly edges: readonly SpecEdge[];
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

export const START = "__start__";
export const END = "__end__";

/** Read a spec of the server. Edges have ids there; a spec of another source may lack them. */
export function specOf(value: unknown): Spec {
  const spec = (value ?? {}) as JsonObject;
  const nodes = Array.isArray(spec["nodes"]) ? (spec["nodes"] as SpecNode[]) : [];
  const edges = Array.isArray(spec["edges"]) ? (spec["edges"] as SpecEdge[]) : [];
  return { ...spec, nodes, edges: withIds(edges) };
}

function withIds(edges: readonly SpecEdge[]): readonly SpecEdge[] {
  if (edges.every(({ id }) => typeof id === "string")) return edges;
  const taken = new Set(edges.map(({ id }) => id));
  return edges.map((edge) => (typeof edge.id === "string" ? edge : { ...edge, id: freeId(edgeIdOf(edge), taken) }));
}

function edgeIdOf({ source, target, port }: SpecEdge): string {
  return [source, port, target].filter(Boolean).join("-").slice(0, 60);
}

/** Return the wanted id, or the first of `id_2`, `id_3` and so on that is free, and take it. */
export function freeId(wanted: string, taken: Set<string>): string {
  let id = wanted;
  for (let number = 2; taken.has(id); number += 1) id = `${wanted.slice(0, 58)}_${number}`;
  taken.add(id);
  return id;
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** Return where a node was placed; undefined if it was not. */
export function positionOf(node: SpecNode): Point | undefined {
  const { position } = node;
  if (typeof position === "object" && position !== null) {
    const { x, y } = position as JsonObject;
    if (isNumber(x) && isNumber(y)) return { x, y };
  }
  const { x, y } = node as JsonObject;
  return isNumber(x) && isNumber(y) ? { x, y } : undefined;
}

/** Return the node at another place, written in the way it was written before. */
export function placed(node: SpecNode, { x, y }: Point): SpecNode {
  if (node["position"] === undefined && isNumber(node["x"]) && isNumber(node["y"])) return { ...node, x, y };
  const position = typeof node["position"] === "object" ? node["position"] : {};
  return { ...node, position: { ...position, x, y } };
}

export function titleOf(node: SpecNode): string {
  return typeof node.label === "string" && node.label !== "" ? node.label : node.id;
}
