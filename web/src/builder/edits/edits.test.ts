/** Every edit is a pure function: it does what it says, and leaves everything else as the same objects. */
import { describe, expect, test } from "vitest";
import { placed, specOf, type Spec, type SpecNode } from "../spec";
import { copiedText, paste, readParts, readSpec } from "./clipboard";
import { connect, insertOnEdge, reconnect, refusalOfEdge, setEdgeMember } from "./edges";
import { addNode, changeNode, deleteParts, moveNodes, newNodeId, setConfig, setMember } from "./nodes";
import { placesOf } from "./place";
import { portsOf } from "./ports";
import { refusalOfId, renameInExpression, renameInTemplate, renameNode } from "./rename";

const isExpression = (_: string, path: readonly (string | number)[]) => path[path.length - 1] === "condition";

/** A spec with members that the builder does not know, at every level. */
const spec: Spec = specOf({
  inputs: { type: "object", "x-own": 1 },
  future: { kept: [1, { deep: true }] },
  nodes: [
    { id: "a", type: "transform", x: 0, y: 0, note: "own", config: { output: "{{ input.v }}", unknown: { b: 1 } } },
    { id: "b", type: "switch", position: { x: 220, y: 0, z: 7 }, config: { cases: [{ port: "big", condition: "a.output > 1" }], default: "small" } },
    { id: "c", type: "http", config: { url: "{{ a.output }}/{{ nodes['b'].output }}" }, retry: { maxAttempts: 3, custom: true } },
  ],
  edges: [
    { id: "ab", source: "a", target: "b", condition: "a.output", weight: 2 },
    { id: "bc", source: "b", target: "c", port: "big" },
  ],
  outputs: { result: "{{ a.output }}" },
});
const byId = (one: Spec, id: string) => one.nodes.find((node) => node.id === id)!;

describe("unknown members", () => {
  const edits: ReadonlyArray<[string, (now: Spec) => Spec]> = [
    ["add", (now) => addNode(now, { id: "d", type: "end" })],
    ["move", (now) => moveNodes(now, new Map([["a", { x: 5, y: 6 }], ["b", { x: 7, y: 8 }]]))],
    ["connect", (now) => connect(now, { source: "a", target: "c" })],
    ["delete", (now) => deleteParts(now, new Set(["c"]), new Set())],
    ["rename", (now) => renameNode(now, "a", "first", isExpression)],
    ["config", (now) => setConfig(now, "c", { url: "x" })],
    ["label", (now) => setMember(now, "a", "label", "A")],
    ["insert", (now) => insertOnEdge(now, "ab", { id: "m", type: "delay" })],
    ["condition", (now) => setEdgeMember(now, "ab", "condition", undefined)],
    ["reconnect", (now) => reconnect(now, "ab", { source: "a", target: "c" })],
    ["paste", (now) => paste(now, { nodes: now.nodes, edges: now.edges }, isExpression).spec],
  ];
  test.each(edits)("survive %s", (_, edit) => {
    const before = JSON.stringify(spec);
    const after = edit(spec);
    expect(after).not.toBe(spec);
    expect(JSON.stringify(spec)).toBe(before);
    expect(after["future"]).toBe(spec["future"]);
    expect(after["inputs"]).toBe(spec["inputs"]);
    const [a] = after.nodes;
    expect(a).toMatchObject({ note: "own", config: { unknown: { b: 1 } } });
    expect(after.edges.find(({ id }) => id === "ab")).toMatchObject({ weight: 2 });
    const c = after.nodes.find(({ type }) => type === "http");
    if (c) expect(c["retry"]).toEqual({ maxAttempts: 3, custom: true });
  });
});

test("a spec without edge ids gets ids that are free, and is otherwise the same", () => {
  const read = specOf({ nodes: [{ id: "a", type: "end" }], edges: [{ source: "a", target: "a" }, { source: "a", target: "a" }, { id: "x", source: "a", target: "a" }] });
  expect(read.edges.map(({ id }) => id)).toEqual(["a-a", "a-a_2", "x"]);
  const edges = spec.edges;
  expect(specOf(spec).edges).toBe(edges);
});

describe("nodes", () => {
  test("a new id is free and valid", () => {
    expect(newNodeId(spec, "http")).toBe("http");
    expect(newNodeId({ ...spec, nodes: [...spec.nodes, { id: "http", type: "http" }] }, "http")).toBe("http_2");
    expect(newNodeId(spec, "my type!")).toBe("my_type_");
  });
  test("a move keeps the way in which the place was written", () => {
    const moved = moveNodes(spec, new Map([["a", { x: 5, y: 6 }], ["b", { x: 7, y: 8 }], ["c", { x: 9, y: 1 }]]));
    expect(byId(moved, "a")).toMatchObject({ x: 5, y: 6 });
    expect(byId(moved, "a")["position"]).toBeUndefined();
    expect(byId(moved, "b")["position"]).toEqual({ x: 7, y: 8, z: 7 });
    expect(byId(moved, "c")["position"]).toEqual({ x: 9, y: 1 });
  });
  test("an edit that changes nothing returns the same spec", () => {
    expect(moveNodes(spec, new Map([["a", { x: 0, y: 0 }]]))).toBe(spec);
    expect(deleteParts(spec, new Set(["no"]), new Set())).toBe(spec);
    expect(changeNode(spec, "a", (node) => node)).toBe(spec);
    expect(connect(spec, { source: "b", target: "c", port: "big" })).toBe(spec);
    expect(renameNode(spec, "a", "b", isExpression)).toBe(spec);
  });
  test("a deleted node takes its edges along", () => {
    expect(deleteParts(spec, new Set(["b"]), new Set()).edges).toEqual([]);
  });
});

describe("edges", () => {
  test("two edges may join the same nodes by different ports", () => {
    expect(refusalOfEdge(spec, { source: "b", target: "c", port: "big" })).toBeDefined();
    expect(connect(spec, { source: "b", target: "c", port: "small" }).edges).toHaveLength(3);
  });
  test("a node in an edge: the first part keeps its condition and port, the second leads on", () => {
    const after = insertOnEdge(spec, "ab", { id: "m", type: "delay" });
    expect(after.edges.map(({ source, target, condition }) => [source, target, condition])).toEqual([
      ["a", "m", "a.output"],
      ["m", "b", undefined],
      ["b", "c", undefined],
    ]);
    expect(byId(after, "m")["position"]).toEqual({ x: 110, y: 0 });
  });
});

describe("rename", () => {
  const cases: ReadonlyArray<[string, string, string]> = [
    ["a.output > 1", "z.output > 1", "z"],
    ["b.a + a", "b.a + z", "z"],
    ["'a' ~ a.output ~ \"a\"", "'a' ~ z.output ~ \"a\"", "z"],
    ["nodes.a.output or nodes['a'].output or nodes[\"a\"].x", "nodes.z.output or nodes['z'].output or nodes[\"z\"].x", "z"],
    ["f(a=1, b=a)", "f(a=1, b=z)", "z"],
    ["a == 1", "z == 1", "z"],
    ["aa + a1 + _a", "aa + a1 + _a", "z"],
    ["a.output", 'nodes["z-1"].output', "z-1"],
    ["input['a'] + a", "input['a'] + z", "z"],
    ["x | default(a.output)", "x | default(z.output)", "z"],
  ];
  test.each(cases)("in the expression %s", (before, after, to) => expect(renameInExpression(before, "a", to)).toBe(after));
  test("in templates only inside of braces, and not where the name is declared", () => {
    expect(renameInTemplate("a {{ a.output }} a {% if a %}x{% endif %}", "a", "z")).toBe("a {{ z.output }} a {% if z %}x{% endif %}");
    expect(renameInTemplate("{% for a in input %}{{ a }}{% endfor %}", "a", "z")).toBe("{% for a in input %}{{ a }}{% endfor %}");
  });
  test("follows in configs, conditions, outputs, edges and named targets", () => {
    const named = addNode(spec, { id: "d", type: "conditional", config: { condition: "a.output", true_edge: "a", false_edge: "c" } });
    const after = renameNode(named, "a", "first", isExpression);
    expect(after.outputs).toEqual({ result: "{{ first.output }}" });
    expect(after.edges[0]).toMatchObject({ source: "first", condition: "first.output" });
    expect(byId(after, "b").config).toEqual({ cases: [{ port: "big", condition: "first.output > 1" }], default: "small" });
    expect(byId(after, "c").config).toEqual({ url: "{{ first.output }}/{{ nodes['b'].output }}" });
    expect(byId(after, "d").config).toEqual({ condition: "first.output", true_edge: "first", false_edge: "c" });
    expect(JSON.stringify(renameNode(after, "first", "a", isExpression))).toBe(JSON.stringify(named));
  });
  test("refuses an id that is taken or has other characters", () => {
    expect(refusalOfId(spec, "a", "b")).toContain("“b”");
    expect(refusalOfId(spec, "a", "x y")).toContain("letters");
    expect(refusalOfId(spec, "a", "")).toBeDefined();
    expect(refusalOfId(spec, "a", "a")).toBeUndefined();
  });
});

describe("clipboard", () => {
  test("what is copied and pasted has free ids, and refers to itself", () => {
    const read = readParts(copiedText(spec, new Set(["a", "b", "c"])));
    if ("refusal" in read) throw new Error(read.refusal);
    const { spec: after, ids } = paste(spec, read.parts, isExpression);
    expect([...ids]).toEqual(["a_2", "b_2", "c_2"]);
    expect(byId(after, "b_2").config).toEqual({ cases: [{ port: "big", condition: "a_2.output > 1" }], default: "small" });
    expect(byId(after, "c_2").config).toEqual({ url: "{{ a_2.output }}/{{ nodes['b_2'].output }}" });
    expect(after.edges.slice(2)).toMatchObject([{ source: "a_2", target: "b_2", condition: "a_2.output", weight: 2 }, { source: "b_2", target: "c_2", port: "big" }]);
    expect(new Set(after.edges.map(({ id }) => id)).size).toBe(4);
  });
  test("a pasted id that is the free id of another one is no mix-up", () => {
    const parts = { nodes: [{ id: "a", type: "x", config: { t: "{{ a_2.output }}" } }, { id: "a_2", type: "x", config: { t: "{{ a.output }}" } }], edges: [] };
    const { spec: after } = paste(spec, parts, isExpression);
    expect(after.nodes.slice(3).map(({ id, config }) => [id, config])).toEqual([
      ["a_2", { t: "{{ a_2_2.output }}" }],
      ["a_2_2", { t: "{{ a_2.output }}" }],
    ]);
  });
  test("only edges between copied nodes are copied", () => {
    expect(JSON.parse(copiedText(spec, new Set(["a", "c"]))).edges).toEqual([]);
  });
  test.each(["", "no json", "[]", "{}", "null", '{"nodes": [{}]}', '{"nodes": [{"id": "a b", "type": "x"}]}', '{"nodes": [{"id": "a"}]}', "7"])(
    "refuses %s with a reason",
    (text) => expect(readParts(text)).toMatchObject({ refusal: expect.stringMatching(/\.$/) }),
  );
  test.each([JSON.stringify(spec), JSON.stringify({ name: "x", spec }), JSON.stringify(spec.nodes), JSON.stringify(spec.nodes[0])])("reads a spec, a file, a list and a node", (text) =>
    expect(readParts(text)).toHaveProperty("parts.nodes.0.id", "a"),
  );
});

describe("files", () => {
  test.each([JSON.stringify(spec), JSON.stringify({ name: "x", spec })])("a spec survives its export and import, with members that the builder does not know", (text) =>
    expect(readSpec(text)).toEqual({ spec }),
  );
  test("an empty spec is a spec, and edges may be left out", () => expect(readSpec('{"nodes": []}')).toEqual({ spec: { nodes: [], edges: [] } }));
  test.each(["", "text", "7", "null", "[]", '{"nodes": {}}', '{"nodes": [{"id": "a b", "type": "x"}]}', JSON.stringify({ nodes: [], text: "é".repeat(600_000) })])("refuses %.40s with a reason", (text) =>
    expect(readSpec(text)).toMatchObject({ refusal: expect.stringMatching(/^(The file|Node 1 in the file)/) }),
  );
});

describe("places", () => {
  test("1,000 nodes without places stand in columns, and none on another", () => {
    const nodes: SpecNode[] = Array.from({ length: 1000 }, (_, index) => ({ id: `n${index}`, type: "transform" }));
    const edges = nodes.slice(1).map(({ id }, index) => ({ id: `e${index}`, source: `n${Math.floor(index / 2)}`, target: id }));
    const back = { id: "back", source: "n999", target: "n0" };
    const places = placesOf({ nodes, edges: [...edges, back] });
    expect(new Set([...places.values()].map(({ x, y }) => `${x},${y}`)).size).toBe(1000);
    expect(places.get("n1")!.x).toBeGreaterThan(places.get("n0")!.x);
  });
  test("nodes with places stay, and others come below them", () => {
    const mixed = addNode(spec, { id: "d", type: "end" });
    expect(placesOf(mixed).get("a")).toEqual({ x: 0, y: 0 });
    expect(placesOf(mixed).get("d")!.y).toBeGreaterThan(0);
  });
  test("a place is written so that it is read again", () => {
    expect(placesOf({ nodes: [placed({ id: "a", type: "x" }, { x: 3, y: 4 })], edges: [] }).get("a")).toEqual({ x: 3, y: 4 });
  });
});

describe("ports", () => {
  const type = { namedPorts: [{ name: "error", isDefault: false, isError: true }], portPaths: [{ path: "cases[*].port", isDefault: false }, { path: "default", isDefault: true }] };
  test("come from the config as it is typed", () => {
    expect(portsOf(byId(spec, "b"), type, new Set()).map(({ name }) => name)).toEqual(["big", "small"]);
    expect(portsOf({ id: "b", type: "switch", config: { cases: [{}, { port: "" }, null], default: 3 } } as never, type, new Set())).toEqual([]);
  });
  test("error shows when failures branch, and a port that only an edge has is kept", () => {
    const node = { ...byId(spec, "b"), onError: "branch" };
    expect(portsOf(node, type, new Set(["gone"])).map(({ name }) => name)).toEqual(["big", "small", "gone", "error"]);
  });
});
