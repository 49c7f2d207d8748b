/** Prepares a JSON Schema of the server for a form: no defaults that fill themselves in, no "or null" alternatives. */
import type { UiSchema } from "@rjsf/utils";

type Schema = { [keyword: string]: unknown };

/** Formats whose fields are texts of their own kind, whatever their type is. */
const TEXT_FORMATS: ReadonlySet<string> = new Set([
  "template", "expression", "code", "json-schema", "model-name", "tool-name", "secret-name", "node", "spec", "node-type",
]);

export interface PreparedForm {
  readonly schema: Schema;
  readonly ui: UiSchema;
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Replace `anyOf: [X, null]` by X: a field that is left empty is absent. */
function withoutNull(schema: Schema): Schema {
  const { anyOf, ...rest } = schema;
  if (!Array.isArray(anyOf)) return schema;
  const others = anyOf.filter((one) => !isSchema(one) || one["type"] !== "null");
  if (others.length === anyOf.length) return schema;
  return others.length === 1 ? { ...(others[0] as Schema), ...rest } : { ...rest, anyOf: others };
}

function mapped(record: unknown, change: (schema: Schema) => Schema): unknown {
  if (!isSchema(record)) return record;
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, isSchema(value) ? change(value) : value]));
}

/** Return the schema without defaults. The form shows them as hints instead. */
export function prepare(schema: Schema): Schema {
  const { default: standard, ...rest } = withoutNull(schema);
  const prepared: Schema = { ...rest };
  if (standard !== undefined && standard !== null) prepared["x-default"] = standard;
  for (const key of ["properties", "$defs", "patternProperties"]) {
    if (prepared[key] !== undefined) prepared[key] = mapped(prepared[key], prepare);
  }
  for (const key of ["items", "additionalProperties"]) {
    const value = prepared[key];
    if (isSchema(value)) prepared[key] = prepare(value);
  }
  for (const key of ["anyOf", "oneOf"]) {
    const value = prepared[key];
    if (Array.isArray(value)) prepared[key] = value.map((one) => (isSchema(one) ? prepare(one) : one));
  }
  return prepared;
}

/** Whether the form has a control for such a schema; else the value is edited as JSON. */
function isPlain(schema: Schema): boolean {
  const { type } = schema;
  if (schema["enum"] !== undefined || schema["const"] !== undefined || schema["$ref"] !== undefined) return true;
  if (schema["anyOf"] !== undefined || schema["oneOf"] !== undefined) return false;
  if (type === "object") return schema["properties"] !== undefined;
  return typeof type === "string";
}

/** Return the options of the form for a prepared schema and its parts. */
export function uiOf(schema: Schema, root: Schema = schema, depth = 0): UiSchema {
  const target = resolved(schema, root);
  const { format } = { ...target, ...schema };
  if (typeof format === "string" && TEXT_FORMATS.has(format)) {
    return { "ui:field": "ValueText", "ui:fieldReplacesAnyOrOneOf": true };
  }
  if (depth > 0 && !isPlain(target)) return { "ui:field": "ValueText", "ui:fieldReplacesAnyOrOneOf": true };
  const ui: UiSchema = {};
  if (depth > 6) return ui;
  const { properties, items } = target;
  if (isSchema(properties)) {
    for (const [name, part] of Object.entries(properties)) if (isSchema(part)) ui[name] = uiOf(part, root, depth + 1);
  }
  if (isSchema(items)) ui["items"] = uiOf(items, root, depth + 1);
  if (target["type"] === "string" && typeof target["maxLength"] === "number" && target["maxLength"] > 500) ui["ui:widget"] = "textarea";
  return ui;
}

function resolved(schema: Schema, root: Schema): Schema {
  const { $ref } = schema;
  if (typeof $ref !== "string" || !$ref.startsWith("#/$defs/")) return schema;
  const target = (root["$defs"] as Schema | undefined)?.[$ref.slice("#/$defs/".length)];
  return isSchema(target) ? target : schema;
}

/** Prepare a schema of the server for a form. */
export function preparedForm(schema: unknown): PreparedForm {
  const prepared = isSchema(schema) ? prepare(schema) : {};
  return { schema: prepared, ui: uiOf(prepared) };
}
