/** The slider stands where the address says, and a fork replaces what was edited and nothing else. */
import { expect, test } from "vitest";
import { indexOf, outputExpression, patchOf, positionText } from "./past";

const POSITIONS = [
  { id: "c1", seq: 1, step: 0, supersededSeq: null, nextNodes: ["a", "b"] },
  { id: "c2", seq: 2, step: 1, supersededSeq: 9, nextNodes: ["c"] },
  { id: "c3", seq: 3, step: 2, supersededSeq: null, nextNodes: [] },
];

test.each([[undefined, 3], ["c1", 0], ["c3", 2], ["gone", 3]])("the address %s is the position %d", (id, index) => expect(indexOf(POSITIONS, id)).toBe(index));

test.each([
  [0, "Step 0, before a, b"],
  [1, "Step 1, before c (replaced by a rewind)"],
  [2, "Step 2, at the end"],
  [3, "Now"],
])("the position %d is %s", (index, text) => expect(positionText(POSITIONS, index)).toBe(text));

test("an id with quotes stays one key of the expression", () => expect(outputExpression('a"] + x["')).toBe('nodes["a\\"] + x[\\""].output'));

test("edited outputs are JSON, and a wrong or an empty one names its node", () => {
  expect(patchOf(new Map([["a", '{"x": 1}'], ["b", "null"]])).patch).toEqual({ a: { x: 1 }, b: null });
  expect(patchOf(new Map([["a", "1"], ["b", " "]])).problem).toMatch(/^b: enter/);
  expect(patchOf(new Map([["a", "{"]])).problem).toMatch(/^a: This is not JSON/);
  expect(Object.keys(patchOf(new Map([["__proto__", "1"]])).patch!)).toEqual(["__proto__"]);
});
