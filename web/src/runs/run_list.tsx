/** The runs, newest first, kept current. The filters are in the address, so a view is a link. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { useQuery, useSubscription } from "urql";
import { RunListChangesDocument, RunListDocument, RunRowFragmentDoc, type RunFilter, type RunStatus } from "~api";
import { runsRoute } from "~/routes";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { Status, statusWord } from "~/shell/status";
import { durationText, Time } from "~/shell/time";

const STATUSES: readonly RunStatus[] = ["QUEUED", "RUNNING", "WAITING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"];

export function RunList() {
  const search = runsRoute.useSearch();
  const navigate = useNavigate();
  const filter = useMemo<RunFilter>(
    () => ({
      ...(search.status ? { status: [search.status as RunStatus] } : {}),
      ...(search.workflow ? { workflowId: search.workflow } : {}),
    }),
    [search.status, search.workflow],
  );
  const [after, setAfter] = useState<string>();
  const [{ data, error }, refetch] = useQuery({ query: RunListDocument, variables: { filter, ...(after ? { after } : {}) } });
  const page = data?.runs;
  // Rows that are shown change by themselves in the cache. A new run makes the list read again.
  const [changed] = useSubscription({ query: RunListChangesDocument, variables: { filter: search.workflow ? { workflowId: search.workflow } : {} } });
  const changedId = changed.data?.runs.id;
  useEffect(() => {
    if (changedId !== undefined && after === undefined) refetch({ requestPolicy: "network-only" });
  }, [changedId, after, refetch]);
  return (
    <div className="view">
      <div className="view-head">
        <h1>Runs</h1>
        <label htmlFor="status">Status</label>
        <select
          id="status"
          value={search.status ?? ""}
          onChange={(event) => {
            const { status: _, ...others } = search;
            setAfter(undefined);
            void navigate({ to: "/runs", search: event.target.value ? { ...others, status: event.target.value } : others });
          }}
        >
          <option value="">any</option>
          {STATUSES.map((status) => (
            <option key={status} value={status}>
              {statusWord(status)}
            </option>
          ))}
        </select>
        {search.workflow && (
          <Link to="/runs" search={search.status ? { status: search.status } : {}}>
            Runs of all workflows
          </Link>
        )}
      </div>
      {error && !data && <Failure title="The runs could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} />}
      {!data && !error && <Loading what="runs" rows={8} />}
      {page?.nodes.length === 0 && (
        <Empty title={search.status || search.workflow ? "No run matches these filters" : "No run yet"}>
          <p>Open a workflow and press Run.</p>
          <Link to="/workflows">To the workflows</Link>
        </Empty>
      )}
      {page && page.nodes.length > 0 && (
        <table className="list">
          <thead>
            <tr>
              <th scope="col">Status</th>
              <th scope="col">Workflow</th>
              <th scope="col">Started</th>
              <th scope="col" className="number">Duration</th>
              <th scope="col" className="optional">Source</th>
              <th scope="col" className="optional">Error</th>
            </tr>
          </thead>
          <tbody>
            {page.nodes.map((run) => (
              <Row key={run.id} run={run} />
            ))}
          </tbody>
        </table>
      )}
      {page?.pageInfo.hasNextPage && (
        <div className="dialog-actions">
          <button type="button" onClick={() => setAfter(page.pageInfo.endCursor ?? undefined)}>
            Older runs
          </button>
        </div>
      )}
    </div>
  );
}

function Row({ run }: { run: FragmentType<typeof RunRowFragmentDoc> }) {
  const { id, status, source, createdAt, durationMs, workflow, error } = readFragment(RunRowFragmentDoc, run);
  return (
    <tr>
      <td>
        <Link to="/runs/$runId" params={{ runId: id }} aria-label={`Run of ${workflow?.name ?? "a spec"}: ${statusWord(status)}`}>
          <Status status={status} />
        </Link>
      </td>
      <td dir="auto">
        {workflow ? (
          <Link to="/workflows/$workflowId" params={{ workflowId: workflow.id }}>
            {workflow.name}
          </Link>
        ) : (
          <span className="faint">a spec</span>
        )}
      </td>
      <td>
        <Time at={createdAt} />
      </td>
      <td className="number">{durationMs == null ? "" : durationText(durationMs)}</td>
      <td className="optional">{statusWord(source as never)}</td>
      <td className="optional">
        {error && (
          <span className="truncate" title={error.message}>
            {error.code}
          </span>
        )}
      </td>
    </tr>
  );
}
