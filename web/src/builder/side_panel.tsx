/** The panel beside the canvas: the selected node or edge, the run, and the problems of the draft. */
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { FieldProblem } from "@treadle/client";
import type { RunPageQuery } from "~api";
import type { NodeTypes } from "~/canvas/node_types";
import type { Place } from "~/routes";
import type { LiveStore } from "~/run/live_run";
import { RunActions } from "~/run/actions";
import { RunPanel } from "~/run/run_panel";
import { LiveStatus, Progress } from "~/run/run_page";
import { Tabs, type Tab } from "~/shell/tabs";
import type { Selection } from "./builder_canvas";
import { setEdgeMember } from "./edits/edges";
import { JsonText, NodePanel, type Edit } from "./node_panel";
import { ProblemList } from "./problem_list";
import { SearchPanel } from "./search_panel";
import type { Spec, SpecEdge } from "./spec";
import { VersionPanel, type VersionPanelProps } from "./versions/version_panel";

interface SidePanelProps {
  readonly spec: Spec;
  readonly types: NodeTypes;
  readonly problems: readonly FieldProblem[];
  readonly selection: Selection;
  readonly place: Place;
  readonly run: NonNullable<RunPageQuery["run"]> | undefined;
  readonly live: LiveStore;
  readonly onEdit: Edit;
  readonly onRename: (from: string, to: string) => void;
  readonly onRemove: (nodes: ReadonlySet<string>, edges: ReadonlySet<string>) => void;
  readonly onDuplicate: () => void;
  readonly onInsert: (edge: string) => void;
  readonly onShow: (place: Place) => void;
  readonly onGo: (node: string) => void;
  readonly versions: Omit<VersionPanelProps, "selected" | "onSelect" | "onGo">;
}

function withVersion({ version: _, ...place }: Place, version: string | undefined): Place {
  return version === undefined ? place : { ...place, version };
}

export function SidePanel(props: SidePanelProps) {
  const { spec, selection, place, problems, run, live, onShow, onGo } = props;
  const [nodeId] = selection.nodes;
  const node = selection.nodes.size === 1 ? spec.nodes.find(({ id }) => id === nodeId) : undefined;
  const edge = selection.nodes.size === 0 && selection.edges.size === 1 ? spec.edges.find(({ id }) => selection.edges.has(id)) : undefined;
  const setup: Tab = {
    id: "setup",
    title: node ? "Node" : edge ? "Edge" : "Workflow",
    content: () => {
      if (node) {
        const own = problems.filter((problem) => problem.nodeId === node.id);
        return <NodePanel {...props} node={node} problems={own} onRemove={() => props.onRemove(new Set([node.id]), new Set())} />;
      }
      if (edge) return <EdgePanel {...props} edge={edge} />;
      if (selection.nodes.size > 1) return <ManyPanel {...props} />;
      return <WorkflowPanel {...props} />;
    },
  };
  const list: Tab = {
    id: "problems",
    title: `Problems (${problems.length})`,
    content: () => <ProblemList problems={problems} onGo={(problem) => problem.nodeId != null && onGo(problem.nodeId)} />,
  };
  const searchTab: Tab = { id: "search", title: "Search", content: () => <SearchPanel spec={spec} onEdit={props.onEdit} onGo={onGo} /> };
  const versions: Tab = { id: "versions", title: "Versions", content: () => <VersionPanel {...props.versions} selected={place.version} onSelect={(version) => onShow(withVersion(place, version))} onGo={onGo} /> };
  const optional = [searchTab, versions].filter(({ id }) => id === place.tab);
  const runTab: Tab[] = place.run === undefined ? [] : [{ id: "run", title: <>Run <LiveStatus live={live} standard={undefined} /></>, content: () => <RunTab {...props} run={run} runId={place.run!} node={node?.id} /> }];
  return (
    <aside className="side-panel" aria-label="Details">
      <Tabs label="Details" tabs={[setup, ...runTab, list, ...optional]} selected={place.tab ?? "setup"} onSelect={(tab) => onShow({ ...place, tab })} />
    </aside>
  );
}

function RunTab({ run, runId, live, node, place, onShow, onGo }: Pick<SidePanelProps, "live" | "place" | "onShow" | "onGo" | "run"> & { runId: string; node: string | undefined }) {
  // A selected node shows its own results first.
  const [chosen, choose] = useState<{ node: string | undefined; tab: string }>();
  const tab = chosen?.node === node ? chosen?.tab : undefined;
  return (
    <div className="run-tab">
      <Progress live={live} />
      <div className="row run-tab-head">
        <Link to="/runs/$runId" params={{ runId }} className="truncate grow">
          Open the run
        </Link>
        {run && <RunActions run={run} onDerived={(id) => onShow({ ...place, run: id })} />}
      </div>
      <RunPanel runId={runId} run={run} live={live} node={node} tab={tab} onTab={(next) => choose({ node, tab: next })} onNode={onGo} />
    </div>
  );
}

function EdgePanel({ edge, onEdit, onRemove, onInsert }: SidePanelProps & { edge: SpecEdge }) {
  return (
    <div className="node-panel">
      <h2>
        {edge.source} → {edge.target}
      </h2>
      {edge.port && <p className="faint">It leaves by the port “{edge.port}”.</p>}
      <div className="form-field">
        <label htmlFor="edge-condition">
          Condition <span className="field-kind">expression</span>
        </label>
        <textarea
          id="edge-condition"
          className="mono"
          rows={2}
          placeholder="always"
          value={typeof edge.condition === "string" ? edge.condition : ""}
          onChange={(event) => onEdit((now) => setEdgeMember(now, edge.id, "condition", event.target.value || undefined), `condition ${edge.id}`)}
        />
        <p className="field-help">The edge is taken if it is true when the source is done.</p>
      </div>
      <div className="row">
        <button type="button" onClick={() => onInsert(edge.id)}>
          Insert a node
        </button>
        <button type="button" className="danger" onClick={() => onRemove(new Set(), new Set([edge.id]))}>
          Delete
        </button>
      </div>
    </div>
  );
}

function ManyPanel({ selection, onRemove, onDuplicate }: SidePanelProps) {
  return (
    <div className="node-panel">
      <h2>{selection.nodes.size} nodes</h2>
      <div className="row">
        <button type="button" onClick={onDuplicate}>
          Duplicate
        </button>
        <button type="button" className="danger" onClick={() => onRemove(selection.nodes, selection.edges)}>
          Delete
        </button>
      </div>
    </div>
  );
}

const MEMBERS = [
  { name: "inputs", title: "Inputs", help: "A JSON Schema. The form of Run is drawn from it." },
  { name: "outputs", title: "Outputs", help: "Templates by name. Without them, the output of the run is that of the end node." },
  { name: "concurrency", title: "Concurrency", help: "How many runs may be active at once: {\"limit\": 2, \"onLimit\": \"queue\"}." },
] as const;

function WorkflowPanel({ spec, onEdit }: SidePanelProps) {
  const set = (name: string, value: unknown) =>
    onEdit((now) => {
      const { [name]: _, ...rest } = now;
      return (value === undefined ? rest : { ...now, [name]: value }) as Spec;
    }, `member ${name}`);
  return (
    <div className="node-panel">
      <p className="faint">
        {spec.nodes.length} nodes, {spec.edges.length} edges. Press / to add a node. Select a node or an edge to change it.
      </p>
      {MEMBERS.map(({ name, title, help }) => (
        <section key={name}>
          <h3>{title}</h3>
          <p className="field-help">{help}</p>
          <JsonText label={`${title} as JSON`} value={spec[name]} onChange={(value) => set(name, value)} />
        </section>
      ))}
    </div>
  );
}
