/** Builds a workflow, and shows a run of it on the same canvas. */
import { Link } from "@tanstack/react-router";
import { ReactFlowProvider } from "@xyflow/react";
import { useQuery } from "urql";
import { BuilderDocument } from "~api";
import { builderRoute } from "~/routes";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { Editor } from "./editor";
import "./builder.css";

export function Builder() {
  const { workflowId } = builderRoute.useParams();
  // The editor begins with what the server has now, not with what the cache has, and follows it by itself from then on.
  const [{ data, error }, refetch] = useQuery({ query: BuilderDocument, variables: { id: workflowId }, requestPolicy: "network-only" });
  const workflow = data?.workflow;
  if (error && !data) {
    return (
      <div className="view">
        <Failure title="The workflow could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} />
      </div>
    );
  }
  if (data && !workflow) {
    return (
      <div className="view">
        <Empty title="There is no such workflow">
          <p>It was deleted, or you may not see it. Edits that were not saved are kept in this browser.</p>
          <Link to="/workflows">To the workflows</Link>
        </Empty>
      </div>
    );
  }
  if (workflow?.id !== workflowId) return <div className="view"><Loading what="the workflow" rows={6} /></div>;
  return (
    <ReactFlowProvider>
      <Editor key={workflow.id} workflow={workflow} />
    </ReactFlowProvider>
  );
}
