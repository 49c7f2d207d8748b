/** A node on the canvas. It draws itself again when its own spec, state or problems change, and for nothing else. */
import { Handle, Position, type Node, type NodeProps } from "@xyflow/react";
import { memo } from "react";
import type { Port } from "~/builder/edits/ports";
import { titleOf, type SpecNode } from "~/builder/spec";
import { StatusIcon, statusKind, statusWord } from "~/shell/status";
import { useNodeMark } from "./marks";
import type { NodeType } from "./node_types";
import { TypeIcon } from "./icons";

export interface CardData extends Record<string, unknown> {
  readonly node: SpecNode;
  readonly type: NodeType | undefined;
  readonly ports: readonly Port[];
  readonly isEntry: boolean;
  readonly isExit: boolean;
}

export type CardNode = Node<CardData, "card">;

export const NodeCard = memo(function NodeCard({ id, data, selected, isConnectable }: NodeProps<CardNode>) {
  const { node, type, ports, isEntry, isExit } = data;
  const { state, problem } = useNodeMark(id);
  const status = state && state.status !== "IDLE" ? state.status : undefined;
  const classes = ["node-card", selected && "is-selected", status && `is-${statusKind(status)}`, problem && `has-${problem.severity.toLowerCase()}`];
  return (
    <div className={classes.filter(Boolean).join(" ")} data-status={state?.status} title={problem?.message}>
      {!isEntry || node.type !== "start" ? <Handle type="target" position={Position.Left} isConnectable={isConnectable} /> : null}
      <div className="node-head">
        <TypeIcon name={type?.icon} />
        <span className="node-title" dir="auto">
          {titleOf(node)}
        </span>
        {status && (
          <span className="node-status" title={state?.message ?? statusWord(status)}>
            <StatusIcon status={status} label />
          </span>
        )}
        {problem && !status && <span className={`node-problem is-${problem.severity.toLowerCase()}`}>{problem.severity === "ERROR" ? "✕" : "!"}</span>}
      </div>
      <div className="node-sub">
        <span>{type?.title ?? node.type}</span>
        {state && state.visits > 1 && <span>×{state.visits}</span>}
        {state?.status === "RUNNING" && state.progress > 0 && state.progress < 1 && <progress value={state.progress} aria-label="Progress" />}
      </div>
      {ports.map((port) => (
        <div key={port.name} className={port.isError ? "node-port is-error" : "node-port"} data-taken={state?.port === port.name || undefined}>
          {port.name}
          <Handle type="source" id={port.name} position={Position.Right} isConnectable={isConnectable} />
        </div>
      ))}
      {!isExit && <Handle type="source" position={Position.Right} className="handle-any" isConnectable={isConnectable} />}
    </div>
  );
});
