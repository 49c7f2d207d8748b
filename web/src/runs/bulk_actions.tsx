/** Cancels or retries all runs of the list by a bulk job of the server, after a count. */
import { useState } from "react";
import { useMutation } from "urql";
import { BulkProgressFragmentDoc, CancelRunsDocument, RetryRunsDocument, type BulkInput, type RunFilter } from "~api";
import { Confirm } from "~/shell/confirm";
import { readFragment } from "~/shell/fragments";
import { newKey } from "~/shell/operation";
import { failureOf, refusalOf } from "~/shell/problems";

type BulkKind = "cancel" | "retry";

const WORDS: Record<BulkKind, { title: string; action: string; what: string }> = {
  cancel: { title: "Cancel all…", action: "Cancel them", what: "active" },
  retry: { title: "Retry all…", action: "Retry them", what: "failed or cancelled" },
};
/** The most runs of one job. */
const MAX = 1000;

interface BulkActionsProps {
  readonly filter: RunFilter;
  readonly projectId: string | undefined;
  readonly onStarted: (jobId: string) => void;
}

interface Planned {
  readonly kind: BulkKind;
  readonly input: BulkInput;
  readonly matched: number;
}

export function BulkActions({ filter, projectId, onStarted }: BulkActionsProps) {
  const { send, problem, isBusy } = useBulk();
  const [planned, setPlanned] = useState<Planned>();
  const plan = async (kind: BulkKind) => {
    const input: BulkInput = { filter, max: MAX, ...(projectId === undefined ? {} : { projectId }) };
    const job = await send(kind, { ...input, dryRun: true });
    if (job) setPlanned({ kind, input, matched: job.matched });
  };
  const confirm = async ({ kind, input }: Planned) => {
    const job = await send(kind, { ...input, idempotencyKey: newKey() });
    if (!job) return;
    setPlanned(undefined);
    onStarted(job.id);
  };
  return (
    <>
      {(["cancel", "retry"] as const).map((kind) => (
        <button key={kind} type="button" disabled={isBusy} onClick={() => void plan(kind)}>
          {WORDS[kind].title}
        </button>
      ))}
      {problem && !planned && <span className="field-error wrap" role="alert">{problem}</span>}
      {planned && <Question planned={planned} problem={problem} isBusy={isBusy} onConfirm={() => void confirm(planned)} onClose={() => setPlanned(undefined)} />}
    </>
  );
}

interface QuestionProps {
  readonly planned: Planned;
  readonly problem: string | undefined;
  readonly isBusy: boolean;
  readonly onConfirm: () => void;
  readonly onClose: () => void;
}

function Question({ planned: { kind, matched }, problem, isBusy, onConfirm, onClose }: QuestionProps) {
  const { action, what } = WORDS[kind];
  const title = matched === 0 ? `No ${what} run matches` : `${action.replace(" them", "")} ${matched.toLocaleString("en")} ${matched === 1 ? "run" : "runs"}?`;
  return (
    <Confirm title={title} action={action} refuse="Leave them" problem={problem} isBusy={isBusy || matched === 0} onConfirm={onConfirm} onClose={onClose}>
      <p>
        {matched === 0 ? `The filters of the list select no ${what} run.` : `These are the ${what} runs that the filters of the list select, also on its other pages.`}
        {matched === MAX && ` One job changes at most ${MAX.toLocaleString("en")} runs, the newest first; repeat it for the others.`}
      </p>
    </Confirm>
  );
}

function useBulk() {
  const [problem, setProblem] = useState<string>();
  const [cancelling, cancel] = useMutation(CancelRunsDocument);
  const [retrying, retry] = useMutation(RetryRunsDocument);
  const send = async (kind: BulkKind, input: BulkInput) => {
    const { error, payload } =
      kind === "cancel"
        ? await cancel({ input }).then(({ error: failure, data }) => ({ error: failure, payload: data?.cancelRuns }))
        : await retry({ input }).then(({ error: failure, data }) => ({ error: failure, payload: data?.retryRuns }));
    setProblem(error ? failureOf(error) : refusalOf(payload?.errors));
    return readFragment(BulkProgressFragmentDoc, payload?.job);
  };
  return { send, problem, isBusy: cancelling.fetching || retrying.fetching };
}
