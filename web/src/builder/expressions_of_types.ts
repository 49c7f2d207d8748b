/** Which config fields of which node types are expressions as a whole, by the `format` in their JSON Schemas. */
import type { NodeTypes } from "~/canvas/node_types";
import type { IsExpression } from "./edits/rename";

type Schema = { readonly [keyword: string]: unknown };

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Return the formats of all schemas that may describe the value at a path. */
export function formatsAt(root: Schema, schema: unknown, path: readonly (string | number)[]): string[] {
  if (!isSchema(schema)) return [];
  const { $ref, anyOf, oneOf, allOf } = schema;
  if (typeof $ref === "string") {
    const target = isSchema(root["$defs"]) ? root["$defs"][$ref.replace("#/$defs/", "")] : undefined;
    return formatsAt(root, target, path);
  }
  const branches = [anyOf, oneOf, allOf].flatMap((list) => (Array.isArray(list) ? list : []));
  const nested = branches.flatMap((branch) => formatsAt(root, branch, path));
  const [step, ...rest] = path;
  if (step === undefined) return typeof schema["format"] === "string" ? [schema["format"], ...nested] : nested;
  const member = typeof step === "number" ? schema["items"] : ((schema["properties"] as Schema | undefined)?.[step] ?? schema["additionalProperties"]);
  return [...formatsAt(root, member, rest), ...nested];
}

export function expressionsOf(types: NodeTypes): IsExpression {
  return (type, path) => {
    const schema = types.get(type)?.configSchema as Schema | undefined;
    return schema !== undefined && formatsAt(schema, schema, path).includes("expression");
  };
}
