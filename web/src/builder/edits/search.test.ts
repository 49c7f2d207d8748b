/** Search finds texts and no names; replace changes what was found and nothing else. */
import { describe, expect, test } from "vitest";
import { specOf, type Spec } from "../spec";
import { occurrences, pathText, replace, search, type Query } from "./search";

const spec: Spec = specOf({
  inputs: { type: "object", description: "Mail of Ada" },
  nodes: [
    { id: "ada", type: "transform", label: "Ada", config: { output: { greeting: "Dear Ada, ada!", list: ["x", "Ada"], ada: 1 } } },
    { id: "b", type: "http", config: { url: "https://ada.example/(a+b)" } },
  ],
  edges: [{ id: "ada-b", source: "ada", target: "b", condition: "input.name == 'Ada'" }],
  outputs: { result: "{{ ada.output }}" },
});
const any = (text: string): Query => ({ text, isCaseSensitive: false });
const exact = (text: string): Query => ({ text, isCaseSensitive: true });
const places = (query: Query) => search(spec, query).map(({ nodeId, edgeId, path }) => [nodeId ?? edgeId ?? "spec", pathText(path)].join(" "));

describe("search", () => {
  test("finds texts at every level, and no ids, types and ends of edges", () => {
    expect(places(any("ada"))).toEqual([
      "ada label",
      "ada config.output.greeting",
      "ada config.output.list[1]",
      "b config.url",
      "ada-b condition",
      "spec inputs.description",
      "spec outputs.result",
    ]);
    expect(places(any("transform"))).toEqual([]);
  });
  test.each([
    [any("ADA"), "Dear Ada, ada!", [5, 10]],
    [exact("Ada"), "Dear Ada, ada!", [5]],
    [any("(a+b)"), "x (A+B)", [2]],
    [any(""), "abc", []],
    [any("aa"), "aaaa", [0, 2]],
    [any("שלום"), "<b>שלום</b>", [3]],
  ])("%o in %s", (query, value, at) => expect(occurrences(value, query)).toEqual(at));
});

describe("replace", () => {
  test("changes every match, and is undone by the reverse", () => {
    const before = JSON.stringify(spec);
    const after = replace(spec, search(spec, exact("Ada")), exact("Ada"), "Grace");
    expect(JSON.stringify(spec)).toBe(before);
    expect(after.nodes[0]).toMatchObject({ id: "ada", label: "Grace", config: { output: { greeting: "Dear Grace, ada!", list: ["x", "Grace"], ada: 1 } } });
    expect(after.edges[0]).toMatchObject({ source: "ada", condition: "input.name == 'Grace'" });
    expect(JSON.stringify(replace(after, search(after, exact("Grace")), exact("Grace"), "Ada"))).toBe(before);
  });
  test("changes one match, and leaves the other parts as the same objects", () => {
    const [, , , url] = search(spec, any("ada"));
    const after = replace(spec, [url!], any("ada"), "grace");
    expect(after.nodes[1]!.config).toEqual({ url: "https://grace.example/(a+b)" });
    expect(after.nodes[0]).toBe(spec.nodes[0]);
    expect(after.edges).toBe(spec.edges);
  });
  test("leaves a text that has changed since the search", () => {
    const found = search(spec, any("example"));
    const changed = { ...spec, nodes: [spec.nodes[0]!, { ...spec.nodes[1]!, config: { url: "other.example" } }] };
    expect(replace(changed, found, any("example"), "x")).toBe(changed);
  });
  test("does not read the replacement as a pattern", () => {
    const after = replace(spec, search(spec, exact("Dear")), exact("Dear"), "$& $1");
    expect(after.nodes[0]).toMatchObject({ config: { output: { greeting: "$& $1 Ada, ada!" } } });
  });
  test("changes nothing without matches", () => expect(replace(spec, [], any("ada"), "x")).toBe(spec));
});
