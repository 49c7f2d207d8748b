/** The runs, newest first, kept current. The filters and the page are in the address, so a view is a link. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { useQuery } from "urql";
import { RunListDocument, RunRowFragmentDoc, type RunFilter, type RunListQuery } from "~api";
import { runsRoute } from "~/routes";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { ProjectChoice, useProjects } from "~/shell/projects";
import { Status, statusWord } from "~/shell/status";
import { durationText, Time } from "~/shell/time";
import { BulkActions } from "./bulk_actions";
import { BulkProgress } from "./bulk_progress";
import { RunFilters, sourceWord } from "./run_filters";
import { changedFilter, filterOf, isFiltered } from "./run_filter";
import { useRunChanges } from "./run_changes";
import "./runs.css";

export function RunList() {
  const search = runsRoute.useSearch();
  const navigate = useNavigate();
  const { projects, projectId, setProject } = useProjects();
  // The filters are the same until they change, also if they are relative to now.
  const key = JSON.stringify({ ...search, after: undefined, job: undefined });
  const filter = useMemo<RunFilter>(() => filterOf(JSON.parse(key), Date.now()), [key]);
  const [{ data, error }, refetch] = useQuery({
    query: RunListDocument,
    variables: { filter, ...(projectId ? { projectId } : {}), ...(search.after ? { after: search.after } : {}) },
  });
  const reload = () => refetch({ requestPolicy: "network-only" });
  const [isStale, setStale] = useState(false);
  useRunChanges(filter, projectId, () => (search.after === undefined ? reload() : setStale(true)));
  const show = (next: typeof search) => void navigate({ to: "/runs", search: next });
  const page = data?.runs;
  return (
    <div className="view is-wide">
      <div className="view-head">
        <h1>Runs</h1>
        <ProjectChoice projects={projects} value={projectId} onChange={setProject} />
        <BulkActions filter={filter} projectId={projectId} onStarted={(job) => show({ ...search, job })} />
      </div>
      <RunFilters search={search} onChange={(name, value) => show(changedFilter(search, name, value))} />
      {search.job && <BulkProgress jobId={search.job} onEnd={reload} onClose={() => show(changedFilter(search, "job", undefined))} />}
      {isStale && (
        <p className="banner" role="status">
          There are newer runs. <Link to="/runs" search={changedFilter(search, "after", undefined)} onClick={() => setStale(false)}>To the newest</Link>
        </p>
      )}
      {error && !data && <Failure title="The runs could not be read" text={failureOf(error)} onRetry={reload} />}
      {!data && !error && <Loading what="runs" rows={8} />}
      {page?.nodes.length === 0 && (
        <Empty title={isFiltered(search) ? "No run matches these filters" : "No run yet"}>
          {isFiltered(search) ? <Link to="/runs">Show all runs</Link> : <p>Open a workflow and press Run.</p>}
          <Link to="/workflows">To the workflows</Link>
        </Empty>
      )}
      {page && page.nodes.length > 0 && <RunTable page={page} />}
      {page && (
        <div className="row list-foot">
          <span className="faint grow">
            {page.totalCount.toLocaleString("en")}
            {page.totalCountCapped ? " or more" : ""} {page.totalCount === 1 ? "run" : "runs"}
          </span>
          {search.after && <Link to="/runs" search={changedFilter(search, "after", undefined)}>Newest</Link>}
          {page.pageInfo.hasNextPage && (
            <Link to="/runs" search={{ ...search, after: page.pageInfo.endCursor ?? "" }}>
              Older runs
            </Link>
          )}
        </div>
      )}
    </div>
  );
}

function RunTable({ page }: { page: NonNullable<RunListQuery["runs"]> }) {
  return (
    <table className="list">
      <thead>
        <tr>
          <th scope="col">Status</th>
          <th scope="col">Workflow</th>
          <th scope="col">Started</th>
          <th scope="col" className="number">Duration</th>
          <th scope="col" className="optional">Source</th>
          <th scope="col" className="optional">Tags</th>
          <th scope="col" className="optional">Error</th>
        </tr>
      </thead>
      <tbody>
        {page.nodes.map((run) => (
          <Row key={run.id} run={run} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ run }: { run: FragmentType<typeof RunRowFragmentDoc> }) {
  const { id, status, source, createdAt, durationMs, workflow, error, options } = readFragment(RunRowFragmentDoc, run);
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
      <td className="optional">{sourceWord(source)}</td>
      <td className="optional">
        {options.tags.map((tag) => (
          <Link key={tag} to="/runs" search={{ tag }} className="tag" dir="auto">
            {tag}
          </Link>
        ))}
      </td>
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
