/** Positions of the slider over the checkpoints of a run, and the outputs that a fork replaces. */
import { parsed } from "~/shell/json_field";

export interface Position {
  readonly id: string;
  readonly seq: number;
  readonly step: number;
  readonly supersededSeq: number | null;
  readonly nextNodes: readonly string[];
}

/** Return where the slider stands: at the checkpoint of the address, else behind the last one, which is now. */
export function indexOf(positions: readonly Position[], id: string | undefined): number {
  const index = positions.findIndex((position) => position.id === id);
  return index < 0 ? positions.length : index;
}

export function positionText(positions: readonly Position[], index: number): string {
  const position = positions[index];
  if (position === undefined) return "Now";
  const next = position.nextNodes.length > 0 ? `before ${position.nextNodes.join(", ")}` : "at the end";
  return `Step ${position.step}, ${next}${position.supersededSeq === null ? "" : " (replaced by a rewind)"}`;
}

/** An expression for the output of a node, whatever its id has in it. */
export function outputExpression(nodeId: string): string {
  return `nodes[${JSON.stringify(nodeId)}].output`;
}

/** Return the outputs to replace by node, or why they cannot be read. Nodes that were not edited are left out. */
export function patchOf(edited: ReadonlyMap<string, string>): { patch?: Record<string, unknown>; problem?: string } {
  const patch: Record<string, unknown> = {};
  for (const [nodeId, text] of edited) {
    const { value, problem } = parsed(text);
    if (problem !== undefined) return { problem: `${nodeId}: ${problem}` };
    if (value === undefined) return { problem: `${nodeId}: enter the new output as JSON` };
    Object.defineProperty(patch, nodeId, { value, enumerable: true, configurable: true });
  }
  return { patch };
}
