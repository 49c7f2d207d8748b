/** Forms change nothing by themselves, and read what is typed as the type of the field. */
import { expect, test } from "vitest";
import { preparedForm } from "./form_schema";
import { validator } from "./validator";
import { shownText, valueOf } from "./value_text";

test("defaults become hints, and alternatives with null become plain fields", () => {
  const { schema, ui } = preparedForm({
    type: "object",
    properties: {
      level: { anyOf: [{ type: "number", minimum: 0 }, { type: "null" }], default: null, title: "Level" },
      mode: { enum: ["a", "b"], type: "string", default: "a" },
      prompt: { format: "template", default: null, title: "Prompt" },
      cases: { type: "array", items: { $ref: "#/$defs/Case" }, default: [] },
      any: { title: "Any" },
    },
    $defs: { Case: { type: "object", properties: { condition: { type: "string", format: "expression" } } } },
  });
  expect(JSON.stringify(schema)).not.toContain('"default"');
  expect(schema).toMatchObject({ properties: { level: { type: "number", minimum: 0, title: "Level" }, mode: { "x-default": "a" } } });
  expect(ui).toMatchObject({ prompt: { "ui:field": "ValueText" }, any: { "ui:field": "ValueText" }, cases: { items: { condition: { "ui:field": "ValueText" } } } });
  expect(ui["level"]).toEqual({});
});

test.each([
  ["{{ a }}", { format: "template" }, { value: "{{ a }}" }],
  ["7", { format: "template" }, { value: 7 }],
  ["7 apples", { format: "template" }, { value: "7 apples" }],
  ['{"a": 1}', {}, { value: { a: 1 } }],
  ['{"a": ', {}, { value: '{"a": ' }],
  ["7", { type: "string" }, { value: "7" }],
  ["", {}, {}],
  ["true", { format: "template" }, { value: true }],
  ["{% if x %}", { format: "template" }, { value: "{% if x %}" }],
])("%s with %o is %o", (text, schema, result) => expect(valueOf(text, schema)).toEqual(result));

test.each([[undefined, ""], [null, ""], ["text", "text"], [{ a: 1 }, '{\n  "a": 1\n}'], [0, "0"]])("%o is shown as %o", (value, text) => expect(shownText(value)).toBe(text));

test("the validator needs no eval, and names the field", () => {
  const schema = { type: "object", required: ["subject"], properties: { subject: { type: "string", maxLength: 3 } } } as const;
  const at = (value: unknown) => validator.validateFormData(value as never, schema as never).errors.map(({ property }) => property);
  expect(at({})).toEqual([".subject"]);
  expect(at({ subject: "long" })).toEqual([".subject"]);
  expect(at({ subject: "ok" })).toEqual([]);
});
