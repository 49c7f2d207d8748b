/** What a run has done, in tabs: its result, the selected node, and the log. */
import { Link } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useQuery } from "urql";
import { useStore } from "zustand";
import { NodeDetailDocument, RunLogDocument, RunSummaryFragmentDoc, type LogLevel } from "~api";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { JsonValue } from "~/shell/json_value";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { Status } from "~/shell/status";
import { Tabs } from "~/shell/tabs";
import { durationText, Time } from "~/shell/time";
import { Waits } from "./answer_form";
import type { LiveStore } from "./live_run";
import { Timeline } from "./timeline_panel";
import "./run.css";

interface RunPanelProps {
  readonly runId: string;
  readonly run: FragmentType<typeof RunSummaryFragmentDoc> | undefined;
  readonly live: LiveStore;
  readonly node: string | undefined;
  readonly tab: string | undefined;
  readonly onTab: (tab: string) => void;
  readonly onNode: (node: string) => void;
}

export function RunPanel({ runId, run, live, node, tab, onTab, onNode }: RunPanelProps) {
  const milestone = useStore(live, (state) => state.milestone);
  const summary = { id: "run", title: "Run", content: () => <Summary run={run} runId={runId} milestone={milestone} onNode={onNode} /> };
  const facts = readFragment(RunSummaryFragmentDoc, run);
  const nodes = { id: "nodes", title: "Timeline", content: () => <Timeline live={live} times={facts ?? {}} onNode={onNode} /> };
  const detail = node === undefined ? [] : [{ id: "node", title: node, content: () => <NodeDetail key={node} runId={runId} node={node} live={live} /> }];
  const log = { id: "log", title: "Log", content: () => <Log runId={runId} node={undefined} milestone={milestone} /> };
  const standard = node === undefined ? "run" : "node";
  return <Tabs label="Run" tabs={[summary, nodes, ...detail, log]} selected={tab ?? standard} onSelect={onTab} />;
}

function Summary({ run, runId, milestone, onNode }: { run: RunPanelProps["run"]; runId: string; milestone: number; onNode: (node: string) => void }) {
  const data = readFragment(RunSummaryFragmentDoc, run);
  if (!data) return <Loading what="the run" />;
  const { error, output, inputs, durationMs, createdAt, createdBy, parent, retryOf, forkedFrom, derivedRuns } = data;
  return (
    <div className="run-summary">
      <Waits runId={runId} milestone={milestone} />
      {error && (
        <div className="run-error" role="alert">
          <strong>
            {error.code}
            {error.nodeId && (
              <>
                {" in "}
                <button type="button" className="quiet" onClick={() => onNode(error.nodeId!)}>
                  {error.nodeId}
                </button>
              </>
            )}
          </strong>
          <p className="wrap">{error.message}</p>
        </div>
      )}
      <dl className="facts">
        <dt>Started</dt>
        <dd>
          <Time at={createdAt} /> by {createdBy}
        </dd>
        {durationMs != null && (
          <>
            <dt>Duration</dt>
            <dd>{durationText(durationMs)}</dd>
          </>
        )}
        <Related title="Part of" id={parent?.id} />
        <Related title="Retry of" id={retryOf?.id} />
        <Related title={`Fork at step ${forkedFrom?.step}`} id={forkedFrom?.run.id} />
        {derivedRuns.nodes.map(({ id, source }) => (
          <Related key={id} title={{ RETRY: "Retried as", FORK: "Forked as", SUBWORKFLOW: "Child" }[source as string] ?? "Led to"} id={id} />
        ))}
      </dl>
      {output !== null && output !== undefined && (
        <>
          <h3>Output</h3>
          <JsonValue value={output} name="output" />
        </>
      )}
      <h3>Inputs</h3>
      <JsonValue value={inputs} name="inputs" />
    </div>
  );
}

function Related({ title, id }: { title: string; id: string | undefined }) {
  if (id === undefined) return null;
  return (
    <>
      <dt>{title}</dt>
      <dd>
        <Link to="/runs/$runId" params={{ runId: id }} className="mono">
          {id}
        </Link>
      </dd>
    </>
  );
}

function NodeDetail({ runId, node, live }: { runId: string; node: string; live: LiveStore }) {
  const seq = useStore(live, (state) => state.nodes.get(node)?.seq);
  const text = useStore(live, (state) => state.texts.get(node));
  const [{ data, error }, refetch] = useQuery({ query: NodeDetailDocument, variables: { id: runId, nodeId: node } });
  useEffect(() => {
    if (seq !== undefined) refetch({ requestPolicy: "network-only" });
  }, [seq, refetch]);
  const [tab, setTab] = useState("output");
  if (error && !data) return <Failure title="The node could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} />;
  if (!data) return <Loading what="the node" />;
  const state = data.run?.nodeState;
  if (!state) return <Empty title="This run has no such node" />;
  const streamed = text || state.partialOutput;
  const tabs = [
    {
      id: "output",
      title: "Output",
      content: () => (
        <>
          {state.error && (
            <div className="run-error" role="alert">
              <strong>{state.error.code}</strong>
              <p className="wrap">{state.error.message}</p>
            </div>
          )}
          {streamed && state.output == null && <pre className="text" aria-label="Streamed text" tabIndex={0}>{streamed}</pre>}
          {state.output == null ? !streamed && !state.error && <p className="faint">No output.</p> : <JsonValue value={state.output} name={`${node} output`} />}
        </>
      ),
    },
    { id: "input", title: "Input", content: () => (state.input == null ? <p className="faint">The node has not run yet.</p> : <JsonValue value={state.input} name={`${node} input`} />) },
    { id: "log", title: "Log", content: () => <Log runId={runId} node={node} milestone={seq ?? 0} /> },
    ...(state.error?.details != null ? [{ id: "error", title: "Error", content: () => <JsonValue value={state.error} name={`${node} error`} /> }] : []),
    ...(state.usage ? [{ id: "usage", title: "Usage", content: () => <JsonValue value={state.usage} name={`${node} usage`} /> }] : []),
  ];
  return (
    <div className="node-detail">
      <div className="row node-facts">
        <Status status={state.status} />
        {state.durationMs != null && <span className="faint">{durationText(state.durationMs)}</span>}
        {state.visits > 1 && <span className="faint">visit {state.visits}</span>}
        {state.attempt > 1 && <span className="faint">attempt {state.attempt}</span>}
        {state.port && <span className="faint">left by {state.port}</span>}
        {state.message && <span className="faint truncate">{state.message}</span>}
      </div>
      <Tabs label={`Node ${node}`} tabs={tabs} selected={tab} onSelect={setTab} />
    </div>
  );
}

const LEVELS: readonly LogLevel[] = ["DEBUG", "INFO", "WARNING", "ERROR"];

function Log({ runId, node, milestone }: { runId: string; node: string | undefined; milestone: number }) {
  const [minLevel, setMinLevel] = useState<LogLevel>("DEBUG");
  const [search, setSearch] = useState("");
  const [{ data }, refetch] = useQuery({ query: RunLogDocument, variables: { id: runId, minLevel, ...(node === undefined ? {} : { nodeId: node }) } });
  useEffect(() => {
    if (milestone > 0) refetch({ requestPolicy: "network-only" });
  }, [milestone, refetch]);
  const lines = data?.run?.logs.nodes.filter(({ message }) => message.toLowerCase().includes(search.toLowerCase()));
  return (
    <div className="log">
      <div className="row">
        <input type="search" aria-label="Search the log" placeholder="Search" value={search} onChange={(event) => setSearch(event.target.value)} />
        <select aria-label="Lowest level" value={minLevel} onChange={(event) => setMinLevel(event.target.value as LogLevel)}>
          {LEVELS.map((level) => (
            <option key={level}>{level}</option>
          ))}
        </select>
        {data?.run?.logs.hasMore && <span className="faint">the last 500 lines</span>}
      </div>
      {lines === undefined && <Loading what="the log" />}
      {lines?.length === 0 && <p className="faint">No lines.</p>}
      <ol className="log-lines">
        {lines?.map(({ seq, at, nodeId, level, message }) => (
          <li key={seq} className={`level-${level.toLowerCase()}`}>
            <time dateTime={at}>{at.slice(11, 23)}</time>
            <span className="log-level">{level}</span>
            {node === undefined && <span className="log-node">{nodeId}</span>}
            <span className="wrap">{message}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}
