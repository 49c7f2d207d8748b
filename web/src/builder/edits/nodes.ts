/** Edits of nodes. Each returns a new spec, in which every part that is not concerned is the same object. */
import { freeId, placed, positionOf, type JsonObject, type Point, type Spec, type SpecNode } from "../spec";

/** Return an id for a new node of a type. */
export function newNodeId(spec: Spec, type: string): string {
  const wanted = type.replaceAll(/[^A-Za-z0-9_]+/g, "_").slice(0, 40) || "node";
  return freeId(wanted, new Set(spec.nodes.map(({ id }) => id)));
}

export function addNode(spec: Spec, node: SpecNode): Spec {
  return { ...spec, nodes: [...spec.nodes, node] };
}

/** Replace a node by what `change` makes of it. */
export function changeNode(spec: Spec, id: string, change: (node: SpecNode) => SpecNode): Spec {
  const nodes = spec.nodes.map((node) => (node.id === id ? change(node) : node));
  return nodes.every((node, index) => node === spec.nodes[index]) ? spec : { ...spec, nodes };
}

/** Set a member of a node; undefined removes it. */
export function setMember(spec: Spec, id: string, name: string, value: unknown): Spec {
  return changeNode(spec, id, (node) => {
    if (value !== undefined) return { ...node, [name]: value };
    const { [name]: _, ...rest } = node;
    return rest as SpecNode;
  });
}

export function setConfig(spec: Spec, id: string, config: JsonObject): Spec {
  return setMember(spec, id, "config", config);
}

/** Move nodes to new places. */
export function moveNodes(spec: Spec, places: ReadonlyMap<string, Point>): Spec {
  const nodes = spec.nodes.map((node) => {
    const place = places.get(node.id);
    const last = positionOf(node);
    return place === undefined || (last?.x === place.x && last.y === place.y) ? node : placed(node, place);
  });
  return nodes.every((node, index) => node === spec.nodes[index]) ? spec : { ...spec, nodes };
}

/** Delete nodes with all their edges, and edges. */
export function deleteParts(spec: Spec, nodeIds: ReadonlySet<string>, edgeIds: ReadonlySet<string>): Spec {
  const nodes = spec.nodes.filter(({ id }) => !nodeIds.has(id));
  const edges = spec.edges.filter(({ id, source, target }) => !edgeIds.has(id) && !nodeIds.has(source) && !nodeIds.has(target));
  if (nodes.length === spec.nodes.length && edges.length === spec.edges.length) return spec;
  return { ...spec, nodes, edges };
}
