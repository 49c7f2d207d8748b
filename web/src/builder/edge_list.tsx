/** The edges that leave a node: where to, by which port, on which condition. All of it works by keyboard. */
import { useState } from "react";
import type { NodeTypes } from "~/canvas/node_types";
import { connect, reconnect, refusalOfEdge, setEdgeMember } from "./edits/edges";
import { deleteParts } from "./edits/nodes";
import { portsOf, type Port } from "./edits/ports";
import type { Edit } from "./node_panel";
import { titleOf, type Spec, type SpecEdge, type SpecNode } from "./spec";

interface EdgeListProps {
  readonly spec: Spec;
  readonly node: SpecNode;
  readonly types: NodeTypes;
  readonly onEdit: Edit;
}

export function EdgeList({ spec, node, types, onEdit }: EdgeListProps) {
  const leaving = spec.edges.filter(({ source }) => source === node.id);
  const used = new Set(leaving.flatMap(({ port }) => (typeof port === "string" ? [port] : [])));
  const ports = portsOf(node, types.get(node.type), used);
  if (node.type === "end" && leaving.length === 0) return null;
  return (
    <section>
      <h3>Goes on to</h3>
      {leaving.length === 0 && <p className="faint">Nothing follows. Drag from the right side of the node, or choose below.</p>}
      <ul className="edge-list">
        {leaving.map((edge) => (
          <EdgeItem key={edge.id} spec={spec} edge={edge} ports={ports} onEdit={onEdit} />
        ))}
      </ul>
      <NewEdge key={node.id} spec={spec} node={node} ports={ports} onEdit={onEdit} />
    </section>
  );
}

function PortSelect({ ports, value, onChange, label }: { ports: readonly Port[]; value: string | undefined; onChange: (port: string | undefined) => void; label: string }) {
  if (ports.length === 0) return null;
  return (
    <select aria-label={label} value={value ?? ""} onChange={(event) => onChange(event.target.value || undefined)}>
      <option value="">by any port</option>
      {ports.map(({ name }) => (
        <option key={name}>{name}</option>
      ))}
    </select>
  );
}

function EdgeItem({ spec, edge, ports, onEdit }: { spec: Spec; edge: SpecEdge; ports: readonly Port[]; onEdit: Edit }) {
  const target = spec.nodes.find(({ id }) => id === edge.target);
  const name = target ? titleOf(target) : edge.target;
  return (
    <li>
      <div className="row">
        <PortSelect
          ports={ports}
          label={`Port of the edge to ${name}`}
          value={edge.port}
          onChange={(port) => onEdit((now) => reconnect(now, edge.id, { source: edge.source, target: edge.target, port }))}
        />
        <span className="grow truncate" dir="auto">→ {name}</span>
        <button type="button" className="quiet" aria-label={`Remove the edge to ${name}`} onClick={() => onEdit((now) => deleteParts(now, new Set(), new Set([edge.id])))}>
          ✕
        </button>
      </div>
      <input
        className="mono"
        aria-label={`Condition of the edge to ${name}`}
        placeholder="always"
        value={typeof edge.condition === "string" ? edge.condition : ""}
        onChange={(event) => onEdit((now) => setEdgeMember(now, edge.id, "condition", event.target.value || undefined), `condition ${edge.id}`)}
      />
    </li>
  );
}

function NewEdge({ spec, node, ports, onEdit }: { spec: Spec; node: SpecNode; ports: readonly Port[]; onEdit: Edit }) {
  const [target, setTarget] = useState("");
  const [port, setPort] = useState<string>();
  const refusal = target === "" ? undefined : refusalOfEdge(spec, { source: node.id, target, port });
  return (
    <div className="row">
      <PortSelect ports={ports} label="Port of a new edge" value={port} onChange={setPort} />
      <select className="grow" aria-label="Node to connect to" value={target} onChange={(event) => setTarget(event.target.value)}>
        <option value="">Choose a node</option>
        {spec.nodes.filter(({ type }) => type !== "start").map((one) => (
          <option key={one.id} value={one.id}>
            {titleOf(one)}
          </option>
        ))}
      </select>
      <button
        type="button"
        disabled={target === "" || refusal !== undefined}
        title={refusal}
        onClick={() => {
          onEdit((now) => connect(now, { source: node.id, target, port }));
          setTarget("");
        }}
      >
        Connect
      </button>
    </div>
  );
}
