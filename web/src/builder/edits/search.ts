/** Search and replace in the texts of a spec: labels, configs, conditions, outputs and inputs. Ids stay as they are. */
import type { JsonObject, Spec, SpecEdge, SpecNode } from "../spec";

export type Path = readonly (string | number)[];

export interface Query {
  readonly text: string;
  readonly isCaseSensitive: boolean;
}

export interface Match {
  readonly nodeId?: string;
  readonly edgeId?: string;
  /** The path inside of the node, the edge or the spec. */
  readonly path: Path;
  readonly value: string;
  readonly count: number;
}

/** Members that name parts of the spec. A rename changes them with all references. */
const NODE_NAMES: ReadonlySet<string> = new Set(["id", "type", "position", "x", "y"]);
const EDGE_NAMES: ReadonlySet<string> = new Set(["id", "source", "target", "port"]);
const SPEC_NAMES: ReadonlySet<string> = new Set(["nodes", "edges"]);

/** Return the places at which the text occurs, from left to right. */
export function occurrences(value: string, query: Query): number[] {
  return query.text === "" ? [] : [...value.matchAll(patternOf(query))].map(({ index }) => index);
}

function patternOf({ text, isCaseSensitive }: Query): RegExp {
  return new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"), isCaseSensitive ? "gu" : "giu");
}

/** Return every text of the spec in which the query occurs. */
export function search(spec: Spec, query: Query): Match[] {
  if (query.text === "") return [];
  return [
    ...spec.nodes.flatMap((node) => within(node, NODE_NAMES, query).map((match) => ({ ...match, nodeId: node.id }))),
    ...spec.edges.flatMap((edge) => within(edge, EDGE_NAMES, query).map((match) => ({ ...match, edgeId: edge.id }))),
    ...within(spec, SPEC_NAMES, query),
  ];
}

function within(part: JsonObject, names: ReadonlySet<string>, query: Query): Match[] {
  return Object.entries(part).flatMap(([name, value]) => (names.has(name) ? [] : textsIn(value, [name], query)));
}

function textsIn(value: unknown, path: Path, query: Query): Match[] {
  if (typeof value === "string") {
    const { length: count } = occurrences(value, query);
    return count === 0 ? [] : [{ path, value, count }];
  }
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, one]) => textsIn(one, [...path, Array.isArray(value) ? Number(key) : key], query));
}

/** Return the spec with the text replaced in the matches. One whose text has changed since the search stays. */
export function replace(spec: Spec, matches: readonly Match[], query: Query, replacement: string): Spec {
  const change = <Part extends JsonObject>(part: Part, own: readonly Match[]): Part =>
    own.reduce((now, match) => changedAt(now, match.path, (value) => (value === match.value ? match.value.replaceAll(patternOf(query), () => replacement) : value)) as Part, part);
  const byNode = grouped(matches, ({ nodeId }) => nodeId);
  const byEdge = grouped(matches, ({ edgeId }) => edgeId);
  const rest = matches.filter(({ nodeId, edgeId }) => nodeId === undefined && edgeId === undefined);
  const nodes = mapped(spec.nodes, (node: SpecNode) => change(node, byNode.get(node.id) ?? []));
  const edges = mapped(spec.edges, (edge: SpecEdge) => change(edge, byEdge.get(edge.id) ?? []));
  const parts = nodes === spec.nodes && edges === spec.edges ? spec : { ...spec, nodes, edges };
  return change(parts, rest);
}

function grouped(matches: readonly Match[], keyOf: (match: Match) => string | undefined): ReadonlyMap<string | undefined, readonly Match[]> {
  const groups = new Map<string | undefined, Match[]>();
  for (const match of matches) groups.set(keyOf(match), [...(groups.get(keyOf(match)) ?? []), match]);
  return groups;
}

function mapped<One>(list: readonly One[], change: (one: One) => One): readonly One[] {
  const after = list.map(change);
  return after.every((one, index) => one === list[index]) ? list : after;
}

/** Return the value with what is at the path changed; the same value if that is not changed. */
function changedAt(value: unknown, path: Path, change: (value: unknown) => unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return change(value);
  if (typeof value !== "object" || value === null) return value;
  const before = (value as never)[step];
  const after = changedAt(before, rest, change);
  if (after === before) return value;
  if (Array.isArray(value)) return value.map((one, index) => (index === step ? after : one));
  return { ...value, [step]: after };
}

/** Write a path as in problems: `config.cases[0].port`. */
export function pathText(path: Path): string {
  return path.reduce<string>((text, step) => (typeof step === "number" ? `${text}[${step}]` : text === "" ? step : `${text}.${step}`), "");
}
