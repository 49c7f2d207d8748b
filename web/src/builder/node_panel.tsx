/** The selected node: its name, its config as a form or as JSON, what happens on errors, and its edges. */
import { lazy, Suspense, useState } from "react";
import type { FieldProblem } from "@treadle/client";
import type { NodeType, NodeTypes } from "~/canvas/node_types";
import { Loading } from "~/shell/notices";
import { EdgeList } from "./edge_list";
import { setConfig, setMember } from "./edits/nodes";
import { refusalOfId } from "./edits/rename";
import type { JsonObject, Spec, SpecNode } from "./spec";

const SchemaForm = lazy(() => import("~/forms/schema_form"));

export type Edit = (change: (spec: Spec) => Spec, gesture?: string) => void;

interface NodePanelProps {
  readonly spec: Spec;
  readonly node: SpecNode;
  readonly types: NodeTypes;
  readonly problems: readonly FieldProblem[];
  readonly onEdit: Edit;
  readonly onRename: (from: string, to: string) => void;
  readonly onRemove: () => void;
  readonly onDuplicate: () => void;
}

export function NodePanel({ spec, node, types, problems, onEdit, onRename, onRemove, onDuplicate }: NodePanelProps) {
  const type = types.get(node.type);
  return (
    <div className="node-panel">
      <div className="row">
        <h2 className="grow truncate">{type?.title ?? node.type}</h2>
        <button type="button" className="quiet" onClick={onDuplicate}>
          Duplicate
        </button>
        <button type="button" className="quiet danger" onClick={onRemove}>
          Delete
        </button>
      </div>
      {type === undefined ? (
        <p className="field-error">This server has no node type “{node.type}”. Its config can be edited as JSON.</p>
      ) : (
        <p className="faint">{type.description}</p>
      )}
      {problems.map((problem) => (
        <p key={problem.field + problem.message} className={problem.severity === "ERROR" ? "field-error" : "field-warning"}>
          {problem.message}
        </p>
      ))}
      <Names spec={spec} node={node} onEdit={onEdit} onRename={onRename} />
      <Config key={node.id} node={node} type={type} onEdit={onEdit} />
      <EdgeList spec={spec} node={node} types={types} onEdit={onEdit} />
      <Failures node={node} onEdit={onEdit} />
    </div>
  );
}

function Names({ spec, node, onEdit, onRename }: Pick<NodePanelProps, "spec" | "node" | "onEdit" | "onRename">) {
  const [id, setId] = useState<string>();
  const refusal = id === undefined ? undefined : refusalOfId(spec, node.id, id);
  const rename = () => {
    if (id !== undefined && id !== node.id && refusal === undefined) onRename(node.id, id);
    setId(undefined);
  };
  return (
    <div className="two-columns">
      <div className="form-field">
        <label htmlFor="node-label">Label</label>
        <input
          id="node-label"
          dir="auto"
          value={typeof node.label === "string" ? node.label : ""}
          placeholder={node.id}
          onChange={(event) => onEdit((now) => setMember(now, node.id, "label", event.target.value || undefined), `label ${node.id}`)}
        />
      </div>
      <div className="form-field">
        <label htmlFor="node-id">Id</label>
        <input
          id="node-id"
          className="mono"
          value={id ?? node.id}
          aria-invalid={refusal !== undefined}
          onChange={(event) => setId(event.target.value)}
          onBlur={rename}
          onKeyDown={(event) => event.key === "Enter" && rename()}
        />
        {refusal && <p className="field-error">{refusal}</p>}
      </div>
    </div>
  );
}

function Config({ node, type, onEdit }: { node: SpecNode; type: NodeType | undefined; onEdit: Edit }) {
  const [isJson, showJson] = useState(type === undefined);
  const config = node.config ?? {};
  const change = (value: unknown) => onEdit((now) => setConfig(now, node.id, (value ?? {}) as JsonObject), `config ${node.id}`);
  const hasFields = Object.keys((type?.configSchema as { properties?: object } | undefined)?.properties ?? {}).length > 0;
  if (type !== undefined && !hasFields) return <p className="faint">It has no config.</p>;
  return (
    <section>
      <div className="row">
        <h3 className="grow">Config</h3>
        {type !== undefined && (
          <button type="button" className="quiet" aria-pressed={isJson} onClick={() => showJson(!isJson)}>
            {isJson ? "As a form" : "As JSON"}
          </button>
        )}
      </div>
      {isJson || type === undefined ? (
        <JsonText label="Config as JSON" value={config} onChange={change} />
      ) : (
        <Suspense fallback={<Loading what="the form" />}>
          <SchemaForm id="config" schema={type.configSchema} value={config} onChange={change} unchecked />
        </Suspense>
      )}
    </section>
  );
}

/** Any JSON value as text. What is no JSON stays in the field, and changes nothing. */
export function JsonText({ label, value, onChange }: { label: string; value: unknown; onChange: (value: unknown) => void }) {
  const [draft, setDraft] = useState<string>();
  const [problem, setProblem] = useState<string>();
  const text = draft ?? JSON.stringify(value, null, 2) ?? "";
  const change = (next: string) => {
    setDraft(next);
    try {
      onChange(next.trim() === "" ? undefined : JSON.parse(next));
      setProblem(undefined);
    } catch (error) {
      setProblem(`This is not JSON yet: ${(error as Error).message}`);
    }
  };
  return (
    <div className="form-field">
      <textarea
        className="mono"
        aria-label={label}
        aria-invalid={problem !== undefined}
        spellCheck={false}
        rows={Math.min(24, Math.max(4, text.split("\n").length))}
        value={text}
        onChange={(event) => change(event.target.value)}
        onBlur={() => problem === undefined && setDraft(undefined)}
      />
      {problem && <p className="field-error">{problem}</p>}
    </div>
  );
}

const FAILURE_SCHEMA = {
  type: "object",
  properties: {
    onError: { type: "string", enum: ["fail", "continue", "branch"], title: "When it fails", description: "`branch`: go on by the port `error`." },
    timeoutS: { type: "number", exclusiveMinimum: 0, title: "Time limit of an attempt (s)" },
    retry: {
      type: "object",
      title: "Attempts",
      properties: {
        maxAttempts: { type: "integer", minimum: 1, title: "Attempts, with the first one" },
        backoffS: { type: "number", minimum: 0, title: "Pause before the second one (s)" },
      },
    },
  },
};
const FAILURE_MEMBERS = ["onError", "timeoutS", "retry"] as const;

function Failures({ node, onEdit }: { node: SpecNode; onEdit: Edit }) {
  const value = Object.fromEntries(FAILURE_MEMBERS.flatMap((name) => (node[name] === undefined ? [] : [[name, node[name]]])));
  const change = (next: unknown) => {
    const members = (next ?? {}) as JsonObject;
    const emptied = (one: unknown) => (typeof one === "object" && one !== null && Object.keys(one).length === 0 ? undefined : one);
    onEdit((now) => FAILURE_MEMBERS.reduce((spec, name) => setMember(spec, node.id, name, emptied(members[name])), now), `failure ${node.id}`);
  };
  return (
    <details>
      <summary>Errors and attempts</summary>
      <Suspense fallback={<Loading what="the form" rows={2} />}>
        <SchemaForm id="failure" schema={FAILURE_SCHEMA} value={value} onChange={change} unchecked />
      </Suspense>
    </details>
  );
}
