/**
 * Renames a node everywhere: in edges, in config fields that name nodes, and in all templates and expressions. A name is
 * found by reading the text as minijinja does: not inside strings, not behind a dot, not as a name of an argument.
 */
import type { JsonObject, Spec, SpecEdge, SpecNode } from "../spec";

/** Config fields whose values are ids of nodes or edges. */
const ID_FIELDS: ReadonlySet<string> = new Set(["true_edge", "false_edge"]);
const BLOCK = /\{\{[\s\S]*?\}\}|\{%[\s\S]*?%\}/g;
const TOKEN = /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[A-Za-z_]\w*|\s+|./gsu;
const IDENTIFIER = /^[A-Za-z_]\w*$/;

export const ID_FORM = /^[A-Za-z0-9_.-]{1,64}$/;

/** Whether a field is an expression as a whole, by the name of its schema format. */
export type IsExpression = (type: string, path: readonly (string | number)[]) => boolean;

/** Return the expression with the node's name replaced. */
export function renameInExpression(text: string, from: string, to: string): string {
  const tokens = text.match(TOKEN) ?? [];
  const solid = (index: number, step: number): string => {
    let at = index + step;
    while (tokens[at] !== undefined && /^\s+$/.test(tokens[at]!)) at += step;
    return tokens[at] ?? "";
  };
  return tokens
    .map((token, index) => {
      const before = solid(index, -1);
      const beforeThat = before === "." || before === "[" ? wordBefore(tokens, index) : "";
      if (token === from && before !== "." && !isArgument(solid(index, 1), tokens, index)) {
        return IDENTIFIER.test(to) ? to : `nodes["${to}"]`;
      }
      if (token === from && before === "." && beforeThat === "nodes") return IDENTIFIER.test(to) ? to : token;
      if (before === "[" && beforeThat === "nodes" && (token === `"${from}"` || token === `'${from}'`)) return token[0] + to + token[0];
      return token;
    })
    .join("");
}

/** Return the word in front of the `.` or `[` in front of a token. */
function wordBefore(tokens: readonly string[], index: number): string {
  const words: string[] = [];
  for (let at = index - 1; at >= 0 && words.length < 2; at -= 1) if (!/^\s+$/.test(tokens[at]!)) words.push(tokens[at]!);
  return words[1] ?? "";
}

function isArgument(next: string, tokens: readonly string[], index: number): boolean {
  if (next !== "=") return false;
  const rest = tokens.slice(index + 1).filter((token) => !/^\s+$/.test(token));
  return rest[1] !== "=";
}

/** Whether a template gives the name to a value of its own, as `{% for name in … %}` does. */
function declares(text: string, name: string): boolean {
  const word = name.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`\\{%[-+]?\\s*(?:for|set)\\s+(?:\\w+\\s*,\\s*)*${word}\\b`).test(text);
}

/** Return the template with the node's name replaced inside its braces. */
export function renameInTemplate(text: string, from: string, to: string): string {
  if (!text.includes("{") || declares(text, from)) return text;
  return text.replaceAll(BLOCK, (block) => block.slice(0, 2) + renameInExpression(block.slice(2, -2), from, to) + block.slice(-2));
}

function renameInValue(value: unknown, from: string, to: string, isWhole: (path: readonly (string | number)[]) => boolean, path: readonly (string | number)[] = []): unknown {
  if (typeof value === "string") {
    const name = path[path.length - 1];
    if (typeof name === "string" && ID_FIELDS.has(name)) return value === from ? to : value;
    return isWhole(path) && !value.includes("{{") ? renameInExpression(value, from, to) : renameInTemplate(value, from, to);
  }
  if (Array.isArray(value)) return unchanged(value, value.map((one, index) => renameInValue(one, from, to, isWhole, [...path, index])));
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    const renamed = entries.map(([key, one]) => [key, renameInValue(one, from, to, isWhole, [...path, key])] as const);
    return renamed.every(([, one], index) => one === entries[index]![1]) ? value : Object.fromEntries(renamed);
  }
  return value;
}

function unchanged(before: readonly unknown[], after: readonly unknown[]): readonly unknown[] {
  return after.every((one, index) => one === before[index]) ? before : after;
}

/** Why a node cannot have an id; undefined if it can. The server knows reserved names as well. */
export function refusalOfId(spec: Spec, from: string, to: string): string | undefined {
  if (!ID_FORM.test(to)) return "An id has 1 to 64 letters, digits, “_”, “-” and “.”.";
  if (to !== from && spec.nodes.some(({ id }) => id === to)) return `Another node has the id “${to}”.`;
  return undefined;
}

/** Give a node another id, and change everything that refers to it. */
export function renameNode(spec: Spec, from: string, to: string, isExpression: IsExpression): Spec {
  if (from === to || refusalOfId(spec, from, to) !== undefined) return spec;
  const nodes = spec.nodes.map((node) => {
    const config = renameInValue(node.config, from, to, (path) => isExpression(node.type, path)) as JsonObject | undefined;
    const id = node.id === from ? to : node.id;
    return id === node.id && config === node.config ? node : ({ ...node, id, ...(config === undefined ? {} : { config }) } as SpecNode);
  });
  const edges = spec.edges.map((edge) => renameEdge(edge, from, to));
  const outputs = renameInValue(spec["outputs"], from, to, () => false);
  return { ...spec, nodes, edges, ...(outputs === spec["outputs"] ? {} : { outputs }) };
}

function renameEdge(edge: SpecEdge, from: string, to: string): SpecEdge {
  const source = edge.source === from ? to : edge.source;
  const target = edge.target === from ? to : edge.target;
  const condition = typeof edge.condition === "string" ? renameInValue(edge.condition, from, to, () => true) : edge.condition;
  if (source === edge.source && target === edge.target && condition === edge.condition) return edge;
  return { ...edge, source, target, ...(condition === undefined ? {} : { condition }) } as SpecEdge;
}
