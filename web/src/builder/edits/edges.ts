/** Edits of edges. */
import { END, freeId, placed, positionOf, START, type Spec, type SpecEdge, type SpecNode } from "../spec";
import { placesOf } from "./place";

export interface Connection {
  readonly source: string;
  readonly target: string;
  readonly port?: string | undefined;
}

function isSame(edge: SpecEdge, { source, target, port }: Connection): boolean {
  return edge.source === source && edge.target === target && (edge.port ?? undefined) === port;
}

function newEdge(spec: Spec, { source, target, port }: Connection): SpecEdge {
  const id = freeId([source, port, target].filter(Boolean).join("-").slice(0, 56), new Set(spec.edges.map((edge) => edge.id)));
  return { id, source, target, ...(port === undefined ? {} : { port }) };
}

/** Why two nodes cannot be connected; undefined if they can. */
export function refusalOfEdge(spec: Spec, connection: Connection): string | undefined {
  if (spec.edges.some((edge) => isSame(edge, connection))) return "These nodes are connected already.";
  if (connection.target === START || connection.source === END) return "An edge leads from a node to a node.";
  return undefined;
}

export function connect(spec: Spec, connection: Connection): Spec {
  if (refusalOfEdge(spec, connection) !== undefined) return spec;
  return { ...spec, edges: [...spec.edges, newEdge(spec, connection)] };
}

/** Lead an edge from or to another node or port. Its condition and everything else stay. */
export function reconnect(spec: Spec, id: string, connection: Connection): Spec {
  if (refusalOfEdge(spec, connection) !== undefined) return spec;
  const edges = spec.edges.map((edge) => {
    if (edge.id !== id) return edge;
    const { port: _, ...rest } = edge;
    return { ...rest, source: connection.source, target: connection.target, ...(connection.port === undefined ? {} : { port: connection.port }) } as SpecEdge;
  });
  return { ...spec, edges };
}

/** Set a member of an edge; undefined removes it. */
export function setEdgeMember(spec: Spec, id: string, name: string, value: unknown): Spec {
  const edges = spec.edges.map((edge) => {
    if (edge.id !== id) return edge;
    const { [name]: _, ...rest } = edge;
    return (value === undefined ? rest : { ...edge, [name]: value }) as SpecEdge;
  });
  return { ...spec, edges };
}

/** Put a node into an edge, half way. The first part keeps the port and the condition of the edge. */
export function insertOnEdge(spec: Spec, edgeId: string, node: SpecNode): Spec {
  const edge = spec.edges.find(({ id }) => id === edgeId);
  if (edge === undefined) return spec;
  const places = placesOf(spec);
  const from = places.get(edge.source) ?? { x: 0, y: 0 };
  const to = places.get(edge.target) ?? from;
  const middle = { x: Math.round((from.x + to.x) / 2), y: Math.round((from.y + to.y) / 2) };
  const inserted = positionOf(node) ? node : placed(node, middle);
  const second = newEdge(spec, { source: node.id, target: edge.target });
  const edges = spec.edges.flatMap((one) => (one.id === edgeId ? [{ ...one, target: node.id }, second] : [one]));
  return { ...spec, nodes: [...spec.nodes, inserted], edges };
}
