/** Two people have changed one draft: nothing of either is lost unless someone chooses so. */
import { expect, test } from "vitest";
import { specOf, type Spec } from "../spec";
import { differences, isEqual, merge } from "./merge";
import { addNode, deleteParts, setMember } from "./nodes";

const base: Spec = specOf({
  inputs: { type: "object" },
  own: 1,
  nodes: [{ id: "a", type: "x", extra: 1 }, { id: "b", type: "x" }, { id: "c", type: "x" }],
  edges: [{ id: "ab", source: "a", target: "b" }, { id: "bc", source: "b", target: "c" }, { id: "out", source: "c", target: "__end__" }],
});

test("changes of different parts are both kept", () => {
  const mine = addNode(setMember(base, "a", "label", "mine"), { id: "m", type: "x" });
  const theirs = { ...addNode(setMember(base, "b", "label", "theirs"), { id: "t", type: "x" }), inputs: { type: "array" } };
  const merged = merge(base, mine, theirs);
  expect(merged.nodes.map(({ id, label }) => [id, label])).toEqual([["a", "mine"], ["b", "theirs"], ["c", undefined], ["m", undefined], ["t", undefined]]);
  expect(merged["inputs"]).toEqual({ type: "array" });
  expect(merged).toMatchObject({ own: 1, edges: base.edges });
  expect(merged.nodes[0]).toMatchObject({ extra: 1 });
});

test("a part that both have changed is a conflict, and the choice decides", () => {
  const mine = setMember(base, "a", "label", "mine");
  const theirs = setMember(base, "a", "label", "theirs");
  expect(differences(base, mine, theirs)).toMatchObject([{ part: "node", id: "a", changedBy: "both" }]);
  expect(merge(base, mine, theirs).nodes[0]!.label).toBe("mine");
  expect(merge(base, mine, theirs, new Map([["node a", "theirs"]])).nodes[0]!.label).toBe("theirs");
});

test("a part that one has deleted and the other has changed can be kept or deleted", () => {
  const mine = deleteParts(base, new Set(["b"]), new Set());
  const theirs = setMember(base, "b", "label", "theirs");
  expect(merge(base, mine, theirs).nodes.map(({ id }) => id)).toEqual(["a", "c"]);
  const kept = merge(base, mine, theirs, new Map([["node b", "theirs"], ["edge ab", "theirs"], ["edge bc", "theirs"]]));
  expect(kept.nodes.map(({ id }) => id)).toEqual(["a", "c", "b"]);
  expect(kept.edges.map(({ id }) => id)).toEqual(["out", "ab", "bc"]);
});

test("no edge of a merge leads nowhere", () => {
  const mine = deleteParts(base, new Set(["c"]), new Set());
  const theirs = { ...base, edges: [...base.edges, { id: "ac", source: "a", target: "c" }] };
  expect(merge(base, mine, theirs).edges.map(({ id }) => id)).toEqual(["ab"]);
});

test("all of one side is exactly that side", () => {
  const mine = { ...setMember(base, "a", "label", "mine"), outputs: { o: "1" } };
  const theirs = deleteParts(setMember(base, "b", "label", "theirs"), new Set(["c"]), new Set());
  const all = (side: "mine" | "theirs") => new Map(differences(base, mine, theirs).map(({ part, id }) => [`${part} ${id}`, side]));
  expect(isEqual(merge(base, mine, theirs, all("mine")), mine)).toBe(true);
  expect(isEqual(merge(base, mine, theirs, all("theirs")), theirs)).toBe(true);
});

test("equality ignores the order of members and nothing else", () => {
  expect(isEqual({ a: 1, b: [1, { c: null }] }, { b: [1, { c: null }], a: 1 })).toBe(true);
  expect(isEqual([1, 2], [2, 1])).toBe(false);
  expect(isEqual({ a: undefined }, { b: undefined })).toBe(false);
  expect(isEqual({}, [])).toBe(false);
});
