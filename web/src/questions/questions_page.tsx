/**
 * The open questions of the active runs, each with the form of its answer. A run that has none is not shown.
 *
 * The view reads one page of active runs. It reads that page again when a run changes, at most once a second.
 */
import { Link, useNavigate } from "@tanstack/react-router";
import { useQuery } from "urql";
import { OpenQuestionsDocument, type OpenQuestionsQuery } from "~api";
import { questionsRoute } from "~/routes";
import { Question } from "~/run/answer_form";
import { useRunChanges } from "~/runs/run_changes";
import { Empty, Failure, Loading } from "~/shell/notices";
import { failureOf } from "~/shell/problems";
import { ProjectChoice, useProjects } from "~/shell/projects";
import { Time } from "~/shell/time";
import "~/run/run.css";

type Run = NonNullable<OpenQuestionsQuery["runs"]>["nodes"][number];

function questionsOf(run: Run) {
  return run.waits.filter((wait) => "waitId" in wait);
}

const EVERY_RUN = {};

export function QuestionsPage() {
  const { projects, projectId, setProject } = useProjects();
  const { after } = questionsRoute.useSearch();
  const navigate = useNavigate();
  const variables = { ...(projectId ? { projectId } : {}), ...(after ? { after } : {}) };
  const [{ data, error }, refetch] = useQuery({ query: OpenQuestionsDocument, variables });
  const reload = () => refetch({ requestPolicy: "network-only" });
  useRunChanges(EVERY_RUN, projectId, reload);
  const asking = data?.runs?.nodes.filter((run) => questionsOf(run).length > 0);
  const page = data?.runs?.pageInfo;
  return (
    <div className="view">
      <div className="view-head">
        <h1>Questions</h1>
        <ProjectChoice
          projects={projects}
          value={projectId}
          onChange={(id) => {
            setProject(id);
            void navigate({ to: "/questions" });
          }}
        />
      </div>
      {error && !data && <Failure title="The questions could not be read" text={failureOf(error)} onRetry={reload} />}
      {!data && !error && <Loading what="questions" rows={4} />}
      {asking?.length === 0 && (
        <Empty title={after || page?.hasNextPage ? "No run of this page has a question" : "No run has a question"}>
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
      <div className="row list-foot">
        {after && <Link to="/questions">Newest</Link>}
        {page?.hasNextPage && (
          <Link to="/questions" search={{ after: page.endCursor ?? "" }}>
            Older runs
          </Link>
        )}
      </div>
    </div>
  );
}
