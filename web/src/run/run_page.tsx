/** A run: its canvas coloured by state, and beside it what it has done. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { useQuery } from "urql";
import { useStore } from "zustand";
import { RunHeadFragmentDoc, RunPageDocument, RunSummaryFragmentDoc } from "~api";
import { specOf } from "~/builder/spec";
import { useMarks } from "~/canvas/marks";
import { RunCanvas } from "~/canvas/run_canvas";
import { runRoute } from "~/routes";
import { readFragment } from "~/shell/fragments";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { Status } from "~/shell/status";
import { RunActions } from "./actions";
import { ConnectionBanner } from "./connection_banner";
import { isTerminal, type LiveStore } from "./live_run";
import { RunPanel } from "./run_panel";
import { StartDialog } from "./start_dialog";
import { PastOutput, TimeTravel } from "./time_travel";
import { useCheckpoints, usePast } from "./use_checkpoints";
import { useLiveRun } from "./use_live_run";

export function RunPage() {
  const { runId } = runRoute.useParams();
  const { node, tab, at } = runRoute.useSearch();
  const navigate = useNavigate();
  const [isAgain, setAgain] = useState(false);
  const marks = useMarks();
  const live = useLiveRun(runId, marks);
  const milestone = useStore(live, (state) => state.status);
  const positions = useCheckpoints(runId, milestone);
  const past = usePast(runId, at);
  const [{ data, error }, refetch] = useQuery({ query: RunPageDocument, variables: { id: runId } });
  useEffect(() => {
    if (milestone !== undefined) refetch({ requestPolicy: "network-only" });
  }, [milestone, refetch]);
  const text = JSON.stringify(data?.run?.version.spec);
  const spec = useMemo(() => (text === undefined ? undefined : specOf(JSON.parse(text))), [text]);
  const moment = at === undefined ? {} : { at };
  const show = (search: { node?: string; tab?: string; at?: string }) => void navigate({ to: "/runs/$runId", params: { runId }, search, replace: true });
  const open = (id: string) => void navigate({ to: "/runs/$runId", params: { runId: id } });
  if (error && !data) return <div className="view"><Failure title="The run could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} /></div>;
  if (data && !data.run) return <div className="view"><Empty title="There is no such run"><p>It was deleted, or you may not see it.</p><Link to="/runs">To the runs</Link></Empty></div>;
  const run = data?.run ?? undefined;
  const head = readFragment(RunHeadFragmentDoc, run);
  return (
    <div className="run-view">
      <div className="run-head">
        <h1 className="row grow">
          {run?.workflow ? (
            <Link to="/workflows/$workflowId" params={{ workflowId: run.workflow.id }} dir="auto">
              {run.workflow.name}
            </Link>
          ) : (
            <span>Run of a spec</span>
          )}
          {run && run.version.number > 0 && <span className="faint">version {run.version.number}</span>}
          <LiveStatus live={live} standard={head?.status} />
        </h1>
        {head?.queueReason && <span className="faint">{head.queueReason.message}</span>}
        {run?.workflow && isTerminal(head?.status) && (
          <button type="button" onClick={() => setAgain(true)}>
            Run with other inputs…
          </button>
        )}
        {run && <RunActions run={run} onDerived={open} />}
      </div>
      <div>
        <Progress live={live} />
        <ConnectionBanner live={live} />
        <TimeTravel
          runId={runId}
          positions={positions}
          at={at}
          completedNodes={past?.completedNodes ?? []}
          onMove={(id) => show({ ...(node === undefined ? {} : { node }), ...(id === undefined ? {} : { at: id }) })}
          onForked={open}
        />
      </div>
      <div className="run-body">
        {spec ? <RunCanvas spec={spec} marks={past?.marks ?? marks} selected={node} onSelect={(id) => show(id === undefined ? moment : { node: id, ...moment })} /> : <Loading what="the canvas" />}
        <aside className="side-panel" aria-label="Details of the run">
          {at !== undefined && node !== undefined && <PastOutput runId={runId} at={at} node={node} />}
          <RunPanel
            runId={runId}
            run={run}
            live={live}
            node={node}
            tab={tab}
            onTab={(next) => show({ ...(node === undefined ? {} : { node }), tab: next, ...moment })}
            onNode={(id) => show({ node: id, ...moment })}
          />
        </aside>
      </div>
      {isAgain && run?.workflow && (
        <StartDialog
          workflowId={run.workflow.id}
          inputSchema={run.version.inputSchema}
          target={{ versionId: run.version.id }}
          initial={readFragment(RunSummaryFragmentDoc, run).inputs}
          isAgain
          onClose={() => setAgain(false)}
          onStarted={(id) => {
            setAgain(false);
            open(id);
          }}
        />
      )}
    </div>
  );
}

type RunStatusName = NonNullable<ReturnType<LiveStore["getState"]>["status"]>;

export function LiveStatus({ live, standard }: { live: LiveStore; standard: RunStatusName | undefined }) {
  const status = useStore(live, (state) => state.status) ?? standard;
  return status === undefined ? null : <Status status={status} />;
}

export function Progress({ live }: { live: LiveStore }) {
  const progress = useStore(live, (state) => state.progress);
  return (
    <div className="progress-line" role="progressbar" aria-label="Progress of the run" aria-valuenow={Math.round(progress * 100)}>
      <div style={{ width: `${progress * 100}%` }} />
    </div>
  );
}
