/** Places for nodes that have none: in columns, each node one column behind the latest node that leads to it. */
import { END, positionOf, START, type Point, type Spec } from "../spec";

export const COLUMN = 220;
export const ROW = 96;

/** Return the column of each node: the longest path from a beginning, where edges back are left out. */
function columns(spec: Spec): Map<string, number> {
  const next = new Map<string, string[]>(spec.nodes.map(({ id }) => [id, []]));
  for (const { source, target } of spec.edges) if (next.has(target)) next.get(source)?.push(target);
  const order = topological(spec, next);
  const rank = new Map(order.map((id, index) => [id, index]));
  const column = new Map<string, number>(order.map((id) => [id, 0]));
  for (const id of order) {
    for (const target of next.get(id) ?? []) {
      if (rank.get(target)! > rank.get(id)!) column.set(target, Math.max(column.get(target)!, column.get(id)! + 1));
    }
  }
  return column;
}

/** Return the nodes so that each comes before those it leads to, except along edges back. */
function topological(spec: Spec, next: ReadonlyMap<string, readonly string[]>): string[] {
  const seen = new Set<string>();
  const order: string[] = [];
  const begins = spec.edges.filter(({ source }) => source === START).map(({ target }) => target);
  const targets = new Set(spec.edges.filter(({ target }) => target !== END).map(({ target }) => target));
  const roots = [...begins, ...spec.nodes.map(({ id }) => id).filter((id) => !targets.has(id)), ...spec.nodes.map(({ id }) => id)];
  for (const root of roots) {
    const stack: Array<{ id: string; rest: string[] }> = [];
    const enter = (id: string) => {
      seen.add(id);
      stack.push({ id, rest: [...(next.get(id) ?? [])] });
    };
    if (next.has(root) && !seen.has(root)) enter(root);
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      const target = top.rest.pop();
      if (target === undefined) {
        order.push(top.id);
        stack.pop();
      } else if (!seen.has(target)) enter(target);
    }
  }
  return order.reverse();
}

/** Return the place of every node: its own, or one in the columns below those that have been placed. */
export function placesOf(spec: Spec): ReadonlyMap<string, Point> {
  const places = new Map<string, Point>();
  const free = spec.nodes.filter((node) => {
    const place = positionOf(node);
    if (place) places.set(node.id, place);
    return place === undefined;
  });
  if (free.length === 0) return places;
  const column = columns(spec);
  const top = places.size === 0 ? 0 : Math.max(...[...places.values()].map(({ y }) => y)) + 2 * ROW;
  const heights = new Map<number, number>();
  for (const { id } of free) {
    const x = column.get(id) ?? 0;
    const row = heights.get(x) ?? 0;
    heights.set(x, row + 1);
    places.set(id, { x: x * COLUMN, y: top + row * ROW });
  }
  return places;
}
