/** Asks for the inputs of a run, and starts it. */
import { lazy, Suspense, useState } from "react";
import { useMutation } from "urql";
import { StartRunDocument, type RunWorkflowInput } from "~api";
import { Dialog } from "~/shell/dialog";
import { Loading } from "~/shell/notices";
import { failureOf, refusalOf } from "~/shell/problems";
import { lastInputs, rememberInputs } from "./last_inputs";

const SchemaForm = lazy(() => import("~/forms/schema_form"));

export interface StartDialogProps {
  readonly workflowId: string;
  readonly inputSchema: unknown;
  /** What is run: a revision of the draft, or a version. */
  readonly target: Pick<RunWorkflowInput, "draftRevision" | "versionId">;
  readonly initial?: unknown;
  /** Begin with `initial`, whatever was entered before. */
  readonly isAgain?: boolean;
  readonly onStarted: (runId: string) => void;
  readonly onClose: () => void;
}

export function StartDialog({ workflowId, inputSchema, target, initial, isAgain, onStarted, onClose }: StartDialogProps) {
  const [inputs, setInputs] = useState<unknown>(() => (isAgain ? undefined : lastInputs(workflowId)) ?? initial ?? {});
  const { start, problem, isBusy } = useStart(onStarted);
  const run = (value: unknown) => {
    rememberInputs(workflowId, value);
    void start({ workflowId, ...target, inputs: value });
  };
  return (
    <Dialog title="Run with these inputs" onClose={onClose}>
      {problem && <p className="field-error wrap" role="alert">{problem}</p>}
      {inputSchema === null || inputSchema === undefined ? (
        <FreeInputs inputs={inputs} isBusy={isBusy} onRun={run} />
      ) : (
        <Suspense fallback={<Loading what="the form" />}>
          <SchemaForm id="inputs" schema={inputSchema} value={inputs} onChange={setInputs} onSubmit={run} submitLabel="Run" />
        </Suspense>
      )}
    </Dialog>
  );
}

/** A workflow that declares no inputs takes any JSON. */
function FreeInputs({ inputs, isBusy, onRun }: { inputs: unknown; isBusy: boolean; onRun: (inputs: unknown) => void }) {
  const [text, setText] = useState(() => JSON.stringify(inputs, null, 2));
  const [problem, setProblem] = useState<string>();
  const submit = () => {
    try {
      onRun(JSON.parse(text || "{}"));
    } catch (error) {
      setProblem(`This is not JSON: ${(error as Error).message}`);
    }
  };
  return (
    <div className="form-field">
      <label htmlFor="free-inputs">Inputs as JSON</label>
      <textarea id="free-inputs" className="mono" rows={6} value={text} onChange={(event) => setText(event.target.value)} />
      {problem && <p className="field-error" role="alert">{problem}</p>}
      <p className="faint">The workflow declares no inputs, so it takes any value.</p>
      <div className="dialog-actions">
        <button type="button" className="primary" disabled={isBusy} onClick={submit}>
          Run
        </button>
      </div>
    </div>
  );
}

function useStart(onStarted: (runId: string) => void) {
  const [problem, setProblem] = useState<string>();
  const [{ fetching: isBusy }, mutate] = useMutation(StartRunDocument);
  const start = async (input: RunWorkflowInput) => {
    const { data, error } = await mutate({ input: { ...input, idempotencyKey: crypto.randomUUID() } });
    const runId = data?.runWorkflow?.run?.id;
    setProblem(error ? failureOf(error) : refusalOf(data?.runWorkflow?.errors));
    if (runId !== undefined) onStarted(runId);
  };
  return { start, problem, isBusy };
}
