/** What can be done with a run: the buttons that the server offers, and no others. */
import { useState } from "react";
import { useMutation } from "urql";
import { CancelRunDocument, PauseRunDocument, ResumeRunDocument, RetryRunDocument, RunHeadFragmentDoc, StepRunDocument, type RetryFrom } from "~api";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { failureOf, refusalOf } from "~/shell/problems";

interface RunActionsProps {
  readonly run: FragmentType<typeof RunHeadFragmentDoc>;
  /** Called with the id of a run that follows from this one. */
  readonly onDerived: (runId: string) => void;
}

export function RunActions({ run, onDerived }: RunActionsProps) {
  const { id, status, availableActions } = readFragment(RunHeadFragmentDoc, run);
  const { perform, problem, isBusy } = useRunActions(id, status === "COMPLETED" ? "START" : "FAILED", onDerived);
  const offered = new Set<string>(availableActions);
  return (
    <div className="row" role="group" aria-label="Actions of the run">
      {problem && <span className="field-error wrap" role="alert">{problem}</span>}
      {ACTIONS.filter(({ action }) => offered.has(action)).map(({ action, title }) => (
        <button key={action} type="button" disabled={isBusy} onClick={() => void perform(action)}>
          {action === "RETRY" && status === "COMPLETED" ? "Run again" : title}
        </button>
      ))}
    </div>
  );
}

type Action = "PAUSE" | "RESUME" | "STEP" | "RETRY" | "CANCEL";

const ACTIONS: ReadonlyArray<{ action: Action; title: string }> = [
  { action: "PAUSE", title: "Pause" },
  { action: "RESUME", title: "Resume" },
  { action: "STEP", title: "Step" },
  { action: "RETRY", title: "Retry what failed" },
  { action: "CANCEL", title: "Cancel" },
];

function useRunActions(runId: string, from: RetryFrom, onDerived: (runId: string) => void) {
  const [problem, setProblem] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const [, cancel] = useMutation(CancelRunDocument);
  const [, pause] = useMutation(PauseRunDocument);
  const [, resume] = useMutation(ResumeRunDocument);
  const [, step] = useMutation(StepRunDocument);
  const [, retry] = useMutation(RetryRunDocument);
  const send = async (action: Action) => {
    const input = { runId, idempotencyKey: crypto.randomUUID() };
    switch (action) {
      case "CANCEL":
        return cancel({ input }).then(({ data, error }) => ({ error, payload: data?.cancelRun }));
      case "PAUSE":
        return pause({ input }).then(({ data, error }) => ({ error, payload: data?.pauseRun }));
      case "RESUME":
        return resume({ input }).then(({ data, error }) => ({ error, payload: data?.resumeRun }));
      case "STEP":
        return step({ input }).then(({ data, error }) => ({ error, payload: data?.stepRun }));
      case "RETRY": {
        const { data, error } = await retry({ input: { ...input, from } });
        const derived = data?.retryRun?.run?.id;
        if (derived !== undefined) onDerived(derived);
        return { error, payload: data?.retryRun };
      }
    }
  };
  const perform = async (action: Action) => {
    setBusy(true);
    const { error, payload } = await send(action);
    setBusy(false);
    setProblem(error ? failureOf(error) : refusalOf(payload?.errors));
  };
  return { perform, problem, isBusy };
}
