/** The open questions of a run, each with a form from its schema. */
import { lazy, Suspense, useEffect, useState } from "react";
import { useMutation, useQuery } from "urql";
import { QuestionPartsFragmentDoc, ResumeRunDocument, RunWaitsDocument, type RunWaitsQuery } from "~api";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { Loading } from "~/shell/notices";
import { failureOf, refusalOf } from "~/shell/problems";
import { JsonValue } from "~/shell/json_value";
import { Time } from "~/shell/time";

const SchemaForm = lazy(() => import("~/forms/schema_form"));

type Wait = NonNullable<RunWaitsQuery["run"]>["waits"][number];

/** Show what the run waits for. `milestone` rises when that may have changed. */
export function Waits({ runId, milestone }: { runId: string; milestone: number }) {
  const [{ data }, refetch] = useQuery({ query: RunWaitsDocument, variables: { id: runId } });
  useEffect(() => {
    if (milestone > 0) refetch({ requestPolicy: "network-only" });
  }, [milestone, refetch]);
  const waits = data?.run?.waits ?? [];
  if (waits.length === 0) return null;
  return (
    <div className="waits">
      {waits.map((wait) => ("waitId" in wait ? <Question key={wait.waitId} runId={runId} wait={wait} onAnswered={() => refetch({ requestPolicy: "network-only" })} /> : <OtherWait key={wait.nodeId} wait={wait} />))}
    </div>
  );
}

function OtherWait({ wait }: { wait: Exclude<Wait, { waitId: string }> }) {
  return (
    <p>
      <strong>{wait.nodeId}</strong>{" "}
      {"until" in wait && wait.until ? (
        <>
          waits until <Time at={wait.until} />
        </>
      ) : "name" in wait ? (
        <>waits for the event “{wait.name}”{wait.callbackUrl ? ` at ${wait.callbackUrl}` : ""}</>
      ) : (
        <>waits for another run</>
      )}
    </p>
  );
}

const ANY_ANSWER = { type: "string", title: "Answer" };

interface QuestionProps {
  readonly runId: string;
  readonly wait: FragmentType<typeof QuestionPartsFragmentDoc>;
  readonly onAnswered: () => void;
}

/** A question, and the form of its answer. */
export function Question({ runId, wait, onAnswered }: QuestionProps) {
  const { nodeId, waitId, prompt, schema, mayAnswer } = readFragment(QuestionPartsFragmentDoc, wait);
  const [value, setValue] = useState<unknown>();
  const [problem, setProblem] = useState<string>();
  const [{ fetching }, resume] = useMutation(ResumeRunDocument);
  const answer = async (given: unknown) => {
    const input = { runId, waitId, answer: given, idempotencyKey: crypto.randomUUID() };
    const { data, error } = await resume({ input });
    const refusal = error ? failureOf(error) : refusalOf(data?.resumeRun?.errors);
    setProblem(refusal);
    // A paused run takes the answer without a change of its status.
    if (refusal === undefined) onAnswered();
  };
  return (
    <section className="question" aria-label={`Question of ${nodeId}`}>
      <h3>{nodeId} asks</h3>
      {typeof prompt === "string" ? <p className="wrap" dir="auto">{prompt}</p> : prompt != null && <JsonValue value={prompt} name="question" />}
      {problem && <p className="field-error wrap" role="alert">{problem}</p>}
      {mayAnswer ? (
        <Suspense fallback={<Loading what="the form" rows={2} />}>
          <fieldset disabled={fetching} className="plain">
            <SchemaForm id={waitId} schema={schema ?? ANY_ANSWER} value={value} onChange={setValue} onSubmit={(given) => void answer(given)} submitLabel="Answer" />
          </fieldset>
        </Suspense>
      ) : (
        <p className="faint">You may not answer this question.</p>
      )}
    </section>
  );
}
