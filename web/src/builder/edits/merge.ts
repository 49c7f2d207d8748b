/** Merges two changes of one spec by node, by edge and by top-level member. */
import type { Spec, SpecEdge, SpecNode } from "../spec";

export type Part = "node" | "edge" | "member";
export type Side = "mine" | "theirs";

export interface Difference {
  readonly part: Part;
  /** The id of the node or edge, or the name of the member. */
  readonly id: string;
  readonly mine: unknown;
  readonly theirs: unknown;
  /** Which sides have changed it. Both: someone has to choose. */
  readonly changedBy: Side | "both";
}

/** Whether two JSON values are equal. The order of members does not matter. */
export function isEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [keysA, keysB] = [Object.keys(a), Object.keys(b)];
  if (keysA.length !== keysB.length) return false;
  return keysA.every((key) => Object.hasOwn(b, key) && isEqual((a as never)[key], (b as never)[key]));
}

type Table = ReadonlyMap<string, unknown>;

function tables(spec: Spec): Record<Part, Table> {
  const { nodes, edges, ...members } = spec;
  return {
    node: new Map(nodes.map((node) => [node.id, node])),
    edge: new Map(edges.map((edge) => [edge.id, edge])),
    member: new Map(Object.entries(members)),
  };
}

/** Return every part that the two sides now have in different forms. */
export function differences(base: Spec, mine: Spec, theirs: Spec): Difference[] {
  const [before, ours, others] = [tables(base), tables(mine), tables(theirs)];
  return (["node", "edge", "member"] as const).flatMap((part) => {
    const ids = [...new Set([...ours[part].keys(), ...others[part].keys()])];
    return ids.flatMap((id) => differenceOf(part, id, before[part].get(id), ours[part].get(id), others[part].get(id)));
  });
}

function differenceOf(part: Part, id: string, base: unknown, mine: unknown, theirs: unknown): Difference[] {
  if (isEqual(mine, theirs)) return [];
  const changedBy = isEqual(base, mine) ? "theirs" : isEqual(base, theirs) ? "mine" : "both";
  return [{ part, id, mine, theirs, changedBy }];
}

/** The key of a difference in the choices. */
export function keyOf({ part, id }: Pick<Difference, "part" | "id">): string {
  return `${part} ${id}`;
}

/**
 * Return the spec with the changes of both sides. Where both have changed a part, `choices` decides; mine without one.
 * Edges that would lead to a node that is gone are left out.
 */
export function merge(base: Spec, mine: Spec, theirs: Spec, choices: ReadonlyMap<string, Side> = new Map()): Spec {
  const found = new Map(differences(base, mine, theirs).map((one) => [keyOf(one), one]));
  const sideOf = (part: Part, id: string): Side => {
    const one = found.get(keyOf({ part, id }));
    if (one === undefined) return "mine";
    return choices.get(keyOf(one)) ?? (one.changedBy === "theirs" ? "theirs" : "mine");
  };
  const nodes = joined<SpecNode>("node", mine.nodes, theirs.nodes, sideOf);
  const ids = new Set(nodes.map(({ id }) => id));
  const isThere = (id: string) => ids.has(id) || id.startsWith("__");
  const edges = joined<SpecEdge>("edge", mine.edges, theirs.edges, sideOf).filter(({ source, target }) => isThere(source) && isThere(target));
  const members = (side: Spec) => Object.entries(side).filter(([name]) => name !== "nodes" && name !== "edges");
  const kept = members(mine).filter(([name]) => sideOf("member", name) === "mine");
  const taken = members(theirs).filter(([name]) => sideOf("member", name) === "theirs");
  return { ...Object.fromEntries([...kept, ...taken]), nodes, edges };
}

/** Mine in its order, with the parts of theirs that were chosen; new ones of theirs come last. */
function joined<One extends { readonly id: string }>(part: Part, mine: readonly One[], theirs: readonly One[], sideOf: (part: Part, id: string) => Side): One[] {
  const others = new Map(theirs.map((one) => [one.id, one]));
  const own = new Set(mine.map(({ id }) => id));
  const kept = mine.flatMap((one) => {
    if (sideOf(part, one.id) === "mine") return [one];
    const other = others.get(one.id);
    return other === undefined ? [] : [other];
  });
  return [...kept, ...theirs.filter(({ id }) => !own.has(id) && sideOf(part, id) === "theirs")];
}
