/** The open questions of all runs, each with the form of its answer. A run that has none is not shown. */
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useQuery } from "urql";
import { OpenQuestionsDocument, type OpenQuestionsQuery } from "~api";
import { Question, type InputWait } from "~/run/answer_form";
import { useRunChanges } from "~/runs/run_changes";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { ProjectChoice, useProjects } from "~/shell/projects";
import { Time } from "~/shell/time";
import "~/run/run.css";

type Run = NonNullable<OpenQuestionsQuery["runs"]>["nodes"][number];

function questionsOf(run: Run): InputWait[] {
  return run.waits.filter((wait): wait is Extract<typeof wait, { waitId: string }> => "waitId" in wait);
}

const EVERY_RUN = {};

export function QuestionsPage() {
  const { projects, projectId, setProject } = useProjects();
  const [after, setAfter] = useState<string>();
  const variables = { ...(projectId ? { projectId } : {}), ...(after === undefined ? {} : { after }) };
  const [{ data, error }, refetch] = useQuery({ query: OpenQuestionsDocument, variables });
  const reload = () => refetch({ requestPolicy: "network-only" });
  useRunChanges(EVERY_RUN, projectId, reload);
  const asking = data?.runs?.nodes.filter((run) => questionsOf(run).length > 0);
  const page = data?.runs?.pageInfo;
  return (
    <div className="view">
      <div className="view-head">
        <h1>Questions</h1>
        <ProjectChoice projects={projects} value={projectId} onChange={setProject} />
      </div>
      {error && !data && <Failure title="The questions could not be read" text={failureOf(error)} onRetry={reload} />}
      {!data && !error && <Loading what="questions" rows={4} />}
      {asking?.length === 0 && !page?.hasNextPage && (
        <Empty title="No run has a question">
          <p>A `human` node asks here, and its run waits for the answer.</p>
        </Empty>
      )}
      {asking?.map((run) => (
        <section key={run.id} aria-label={`Questions of ${run.workflow?.name ?? "a spec"}`}>
          <p className="row question-run">
            <Link to="/runs/$runId" params={{ runId: run.id }} dir="auto">
              {run.workflow?.name ?? "Run of a spec"}
            </Link>
            <span className="faint">
              <Time at={run.createdAt} />
            </span>
          </p>
          {questionsOf(run).map((wait) => (
            <Question key={wait.waitId} runId={run.id} wait={wait} onAnswered={reload} />
          ))}
        </section>
      ))}
      {page?.hasNextPage && (
        <button type="button" onClick={() => setAfter(page.endCursor ?? undefined)}>
          Older runs
        </button>
      )}
    </div>
  );
}
