/** The layout moves only what it may move, keeps order, and puts no node on another. */
import ELK from "elkjs/lib/elk.bundled.js";
import { describe, expect, test } from "vitest";
import type { NodeType } from "~/canvas/node_types";
import { specOf, type Point, type Spec, type SpecNode } from "../spec";
import { graphOf, movable, placesOfLayout, type LaidOut, type Scope } from "./layout";
import { moveNodes } from "./nodes";
import { placesOf } from "./place";

const TYPES = new Map([["switch", { namedPorts: [], portPaths: [{ path: "cases[*].port", isDefault: false }] } as unknown as NodeType]]);
const ALL: Scope = { kind: "all" };

async function arranged(spec: Spec, scope: Scope): Promise<ReadonlyMap<string, Point>> {
  const graph = graphOf(spec, movable(spec, scope), TYPES);
  const laidOut = (await new ELK().layout(graph as never)) as LaidOut;
  return placesOfLayout(spec, scope, laidOut, placesOf(spec));
}

/** Return two nodes that stand on each other, if there are such. */
function collision(places: ReadonlyMap<string, Point>): [string, string] | undefined {
  const all = [...places].sort(([, a], [, b]) => a.x - b.x);
  for (const [index, [id, at]] of all.entries()) {
    for (const [other, { x, y }] of all.slice(index + 1)) {
      if (x - at.x >= 168) break;
      if (Math.abs(y - at.y) < 48) return [id, other];
    }
  }
  return undefined;
}

const mixed = specOf({
  nodes: [
    { id: "placed", type: "transform", position: { x: 500, y: 300 } },
    { id: "choose", type: "switch", config: { cases: [{ port: "first" }, { port: "second" }, { port: "third" }] } },
    ...["third", "first", "second"].map((id) => ({ id, type: "transform" })),
  ],
  edges: [
    { source: "placed", target: "choose" },
    ...["third", "first", "second"].map((id) => ({ source: "choose", target: id, port: id })),
    { source: "first", target: "choose" },
    { source: "first", target: "first" },
  ],
});

describe("what may be moved", () => {
  test("nodes with a place stay, unless they are asked for", () => {
    const ids = (scope: Scope) => movable(mixed, scope).map(({ id }) => id);
    expect(ids({ kind: "unplaced" })).toEqual(["choose", "third", "first", "second"]);
    expect(ids({ kind: "chosen", ids: new Set(["placed", "gone"]) })).toEqual(["placed"]);
    expect(ids(ALL)).toHaveLength(5);
  });
  test("nodes without a place come below those with one", async () => {
    const places = await arranged(mixed, { kind: "unplaced" });
    expect(places.has("placed")).toBe(false);
    expect(Math.min(...[...places.values()].map(({ y }) => y))).toBeGreaterThan(300 + 48);
    expect(Math.min(...[...places.values()].map(({ x }) => x))).toBe(500);
  });
  test("a selection keeps its corner, and what is not selected its place", async () => {
    const at = new Map([["first", { x: 900, y: 40 }], ["second", { x: 1000, y: 700 }], ["choose", { x: 880, y: 90 }]]);
    const spec = moveNodes(mixed, at);
    const places = await arranged(spec, { kind: "chosen", ids: new Set(at.keys()) });
    expect([...places.keys()].sort()).toEqual(["choose", "first", "second"]);
    expect(Math.min(...[...places.values()].map(({ x }) => x))).toBe(880);
    expect(Math.min(...[...places.values()].map(({ y }) => y))).toBe(40);
  });
});

test("branches stand in the order of their ports, also in a cycle", async () => {
  const places = await arranged(mixed, ALL);
  expect(places.get("first")!.y).toBeLessThan(places.get("second")!.y);
  expect(places.get("second")!.y).toBeLessThan(places.get("third")!.y);
  expect(places.get("placed")!.x).toBeLessThan(places.get("choose")!.x);
  expect(collision(places)).toBeUndefined();
});

test("an edge of a port that the card does not have leaves from the node", () => {
  const spec = specOf({ nodes: [{ id: "a", type: "transform" }, { id: "b", type: "gone" }], edges: [{ source: "a", target: "b", port: "x" }] });
  const graph = graphOf(spec, spec.nodes, new Map([["transform", { namedPorts: [], portPaths: [] } as unknown as NodeType]]));
  const known = new Set(graph.children.flatMap(({ id, ports }) => [id, ...ports.map((port) => port.id)]));
  expect(graph.edges.every(({ sources, targets }) => [...sources, ...targets].every((id) => known.has(id)))).toBe(true);
});

test("1,000 nodes without places are laid out, and none stands on another", async () => {
  const nodes: SpecNode[] = Array.from({ length: 1000 }, (_, index) => ({ id: `n${index}`, type: "transform" }));
  const edges = nodes.slice(1).map(({ id }, index) => ({ source: `n${Math.floor(index / 2)}`, target: id }));
  const spec = specOf({ nodes, edges: [...edges, { source: "n999", target: "n0" }] });
  const places = await arranged(spec, { kind: "unplaced" });
  expect(places.size).toBe(1000);
  expect(collision(places)).toBeUndefined();
}, 30_000);

test("an empty draft is laid out", async () => {
  expect((await arranged(specOf({ nodes: [], edges: [] }), ALL)).size).toBe(0);
});
