/** The triggers: what they wait for, when they fire next, and why the last firing started no run. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useQuery } from "urql";
import { TriggerListDocument, TriggerRowFragmentDoc } from "~api";
import { triggersRoute } from "~/routes";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { ProjectChoice, useProjects } from "~/shell/projects";
import { Time } from "~/shell/time";
import { NewTrigger } from "./new_trigger";
import "./triggers.css";

export function TriggerList() {
  const { after, create, workflow } = triggersRoute.useSearch();
  const navigate = useNavigate();
  const { projects, projectId, setProject } = useProjects();
  const variables = { ...(projectId ? { projectId } : {}), ...(after ? { after } : {}) };
  const [{ data, error }, refetch] = useQuery({ query: TriggerListDocument, variables });
  const page = data?.triggers;
  const show = (isOpen: boolean) => void navigate({ to: "/triggers", search: isOpen ? { create: "yes" } : {} });
  return (
    <div className="view">
      <div className="view-head">
        <h1>Triggers</h1>
        <ProjectChoice projects={projects} value={projectId} onChange={setProject} />
        <button type="button" className="primary" onClick={() => show(true)}>
          New trigger
        </button>
      </div>
      {error && !data && <Failure title="The triggers could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} />}
      {!data && !error && <Loading what="triggers" />}
      {page?.nodes.length === 0 && (
        <Empty title="No trigger yet">
          <p>A trigger starts runs of a published workflow by itself: at certain times, by a webhook, or when another run ends.</p>
        </Empty>
      )}
      {page && page.nodes.length > 0 && (
        <table className="list">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Workflow</th>
              <th scope="col" className="optional">Kind</th>
              <th scope="col">Next</th>
              <th scope="col" className="optional">Last run</th>
              <th scope="col" className="optional">Problem</th>
            </tr>
          </thead>
          <tbody>
            {page.nodes.map((trigger) => (
              <Row key={trigger.id} trigger={trigger} />
            ))}
          </tbody>
        </table>
      )}
      {page?.pageInfo.hasNextPage && (
        <div className="dialog-actions">
          <Link to="/triggers" search={{ after: page.pageInfo.endCursor ?? "" }}>
            More triggers
          </Link>
        </div>
      )}
      {create && <NewTrigger workflowId={workflow} onClose={() => show(false)} />}
    </div>
  );
}

function Row({ trigger }: { trigger: FragmentType<typeof TriggerRowFragmentDoc> }) {
  const { id, name, kind, enabled, nextFireAt, lastFiredAt, lastError, workflow } = readFragment(TriggerRowFragmentDoc, trigger);
  return (
    <tr>
      <td>
        <Link to="/triggers/$triggerId" params={{ triggerId: id }} dir="auto">
          {name}
        </Link>
        {!enabled && <span className="faint"> off</span>}
      </td>
      <td>
        <Link to="/workflows/$workflowId" params={{ workflowId: workflow.id }} dir="auto">
          {workflow.name}
        </Link>
      </td>
      <td className="optional">{kind}</td>
      <td>{nextFireAt ? <Time at={nextFireAt} /> : <span className="faint">by event</span>}</td>
      <td className="optional">{lastFiredAt ? <Time at={lastFiredAt} /> : <span className="faint">never</span>}</td>
      <td className="optional">
        {lastError && (
          <span className="truncate problem-text" title={lastError}>
            {lastError}
          </span>
        )}
      </td>
    </tr>
  );
}
