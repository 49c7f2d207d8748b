/** Translates a spec into nodes and edges of React Flow. Parts that did not change keep their identity. */
import type { Edge } from "@xyflow/react";
import { placesOf } from "~/builder/edits/place";
import { portsOf } from "~/builder/edits/ports";
import { END, START, titleOf, type Point, type Spec, type SpecEdge, type SpecNode } from "~/builder/spec";
import type { CardNode } from "./node_card";
import type { NodeTypes } from "./node_types";

export const WIDTH = 168;

interface Made {
  readonly card: CardNode;
  readonly node: SpecNode;
  readonly facts: string;
}

export class FlowParts {
  #cards = new Map<string, Made>();
  #edges = new WeakMap<SpecEdge, Edge>();

  /** Return the cards of a spec, in its order. */
  cards(spec: Spec, types: NodeTypes): CardNode[] {
    const places = placesOf(spec);
    const used = usedPorts(spec);
    const entries = new Set(spec.edges.filter(({ source }) => source === START).map(({ target }) => target));
    const made = new Map<string, Made>();
    for (const node of spec.nodes) {
      made.set(node.id, this.#card(node, types, places.get(node.id)!, used.get(node.id) ?? new Set(), entries.has(node.id)));
    }
    this.#cards = made;
    return [...made.values()].map(({ card }) => card);
  }

  #card(node: SpecNode, types: NodeTypes, position: Point, used: ReadonlySet<string>, isEntry: boolean): Made {
    const type = types.get(node.type);
    const ports = portsOf(node, type, used);
    const isExit = node.type === "end";
    const facts = `${position.x},${position.y},${isEntry},${type !== undefined},${ports.map(({ name }) => name).join("|")}`;
    const last = this.#cards.get(node.id);
    if (last !== undefined && last.node === node && last.facts === facts) return last;
    const isStart = node.type === "start";
    const data = { node, type, ports, isEntry: isEntry || isStart, isExit };
    const name = `${titleOf(node)}, ${type?.title ?? node.type}`;
    return { node, facts, card: { id: node.id, type: "card", position, data, ariaLabel: name, width: WIDTH } };
  }

  /** Return the edges between nodes. Edges from the beginning and to the end of the run are implied by the cards. */
  edges(spec: Spec): Edge[] {
    const ids = new Set(spec.nodes.map(({ id }) => id));
    return spec.edges.filter(({ source, target }) => ids.has(source) && ids.has(target) && target !== END).map((edge) => this.#edge(edge));
  }

  #edge(edge: SpecEdge): Edge {
    const last = this.#edges.get(edge);
    if (last !== undefined) return last;
    const { id, source, target, port, condition } = edge;
    const label = condition !== undefined && condition !== "" ? { label: condition } : {};
    const ariaLabel = `Edge from ${source} to ${target}${port ? ` by ${port}` : ""}`;
    const made: Edge = { id, source, target, sourceHandle: port ?? null, type: "state", ariaLabel, ...label };
    this.#edges.set(edge, made);
    return made;
  }
}

function usedPorts(spec: Spec): Map<string, Set<string>> {
  const used = new Map<string, Set<string>>();
  for (const { source, port } of spec.edges) {
    if (typeof port !== "string") continue;
    if (!used.has(source)) used.set(source, new Set());
    used.get(source)!.add(port);
  }
  return used;
}
