/** Cut, copy and paste as JSON text: across tabs, from other programs, and from a whole spec. */
import { freeId, placed, specOf, type JsonObject, type Point, type Spec, type SpecEdge, type SpecNode } from "../spec";
import { placesOf } from "./place";
import { ID_FORM, renameNode, type IsExpression } from "./rename";

export interface Parts {
  readonly nodes: readonly SpecNode[];
  readonly edges: readonly SpecEdge[];
}

export type Read = { readonly parts: Parts } | { readonly refusal: string };

/** Return the nodes and the edges between them as text for the clipboard. Places that the layout chose are written down. */
export function copiedText(spec: Spec, nodeIds: ReadonlySet<string>): string {
  const places = placesOf(spec);
  const nodes = spec.nodes.filter(({ id }) => nodeIds.has(id)).map((node) => placed(node, places.get(node.id)!));
  const edges = spec.edges.filter(({ source, target }) => nodeIds.has(source) && nodeIds.has(target));
  return JSON.stringify({ nodes, edges }, null, 2);
}

/** Read nodes and edges from text. What cannot be pasted is refused with the reason. */
export function readParts(text: string): Read {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { refusal: "The clipboard has no JSON. Copy nodes here, or the JSON of a spec." };
  }
  const object = (typeof value === "object" && value !== null ? value : {}) as JsonObject;
  const raw = Array.isArray(value) ? { nodes: value } : typeof object["spec"] === "object" ? object["spec"] : typeof object["type"] === "string" ? { nodes: [value] } : object;
  const nodes = (raw as JsonObject | null)?.["nodes"];
  if (!Array.isArray(nodes) || nodes.length === 0) return { refusal: "The JSON in the clipboard has no nodes." };
  const wrong = nodes.findIndex((node) => typeof node?.id !== "string" || !ID_FORM.test(node.id) || typeof node?.type !== "string");
  if (wrong >= 0) return { refusal: `Node ${wrong + 1} in the clipboard has no valid id or no type.` };
  const { nodes: read, edges } = specOf(raw);
  return { parts: { nodes: read, edges: edges.filter((edge) => typeof edge.source === "string" && typeof edge.target === "string") } };
}

/** The most bytes of JSON that the server takes as a spec. */
export const MAX_SPEC_BYTES = 1024 * 1024;

/** Read a whole spec from the text of a file: a spec, or an object that has one as `spec`. */
export function readSpec(text: string): { readonly spec: Spec } | { readonly refusal: string } {
  if (new TextEncoder().encode(text).length > MAX_SPEC_BYTES) return { refusal: "The file is larger than 1 MiB, which is the limit of a spec." };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { refusal: `The file is not JSON: ${(error as Error).message}` };
  }
  const object = (typeof value === "object" && value !== null ? value : {}) as JsonObject;
  const raw = (typeof object["spec"] === "object" && object["spec"] !== null ? object["spec"] : object) as JsonObject;
  if (!Array.isArray(raw["nodes"])) return { refusal: "The file is no spec: it has no list `nodes`." };
  const read = readParts(JSON.stringify({ ...raw, edges: Array.isArray(raw["edges"]) ? raw["edges"] : [] }));
  if ("refusal" in read && raw["nodes"].length > 0) return { refusal: read.refusal.replaceAll("clipboard", "file") };
  return { spec: specOf(raw) };
}

export interface Pasted {
  readonly spec: Spec;
  /** The ids of the new nodes. */
  readonly ids: ReadonlySet<string>;
}

/** Add the parts with ids that are free; references among them follow. `at` is the place of the first node. */
export function paste(spec: Spec, parts: Parts, isExpression: IsExpression, at?: Point): Pasted {
  const taken = new Set(spec.nodes.map(({ id }) => id));
  let added: Spec = { nodes: parts.nodes, edges: parts.edges };
  // Two steps, as a free id may be the old id of a node that is renamed later.
  const wanted = parts.nodes.map(({ id }) => [id, freeId(id, taken)] as const).filter(([from, to]) => from !== to);
  wanted.forEach(([from], index) => (added = renameNode(added, from, `paste__${index}`, isExpression)));
  wanted.forEach(([, to], index) => (added = renameNode(added, `paste__${index}`, to, isExpression)));
  const nodes = moved(added, at);
  const edgeIds = new Set(spec.edges.map(({ id }) => id));
  const ids = new Set(nodes.map(({ id }) => id));
  const edges = added.edges.filter(({ source, target }) => ids.has(source) && ids.has(target)).map((edge) => ({ ...edge, id: freeId(edge.id, edgeIds) }));
  return { spec: { ...spec, nodes: [...spec.nodes, ...nodes], edges: [...spec.edges, ...edges] }, ids };
}

function moved(added: Spec, at: Point | undefined): readonly SpecNode[] {
  const places = placesOf(added);
  const first = [...places.values()].reduce((least, { x, y }) => ({ x: Math.min(least.x, x), y: Math.min(least.y, y) }), { x: Infinity, y: Infinity });
  const shift = at === undefined ? { x: 32, y: 32 } : { x: at.x - first.x, y: at.y - first.y };
  return added.nodes.map((node) => {
    const { x, y } = places.get(node.id)!;
    return placed(node, { x: Math.round(x + shift.x), y: Math.round(y + shift.y) });
  });
}
