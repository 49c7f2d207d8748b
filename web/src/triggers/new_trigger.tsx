/** Creates a trigger: which workflow, which kind, and the fields of the kind. */
import { useNavigate } from "@tanstack/react-router";
import { useId, useState } from "react";
import { useQuery } from "urql";
import { CreateTriggerDocument, TriggerKindsDocument } from "~api";
import { Dialog } from "~/shell/dialog";
import { Loading } from "~/shell/notices";
import { newKey, useOperation } from "~/shell/operation";
import { WorkflowChoice } from "~/workflows/workflow_choice";
import { TestButton } from "./test_result";
import { TriggerFields, type TriggerKind } from "./trigger_fields";
import { inputsOf, isComplete, type TriggerValues } from "./trigger_values";

interface NewTriggerProps {
  readonly workflowId: string | undefined;
  readonly onClose: () => void;
}

export function NewTrigger({ workflowId: initial, onClose }: NewTriggerProps) {
  const [{ data }] = useQuery({ query: TriggerKindsDocument, requestPolicy: "cache-first" });
  const kinds = data?.triggerKinds ?? [];
  const [workflowId, setWorkflow] = useState(initial);
  const [name, setKind] = useState("schedule");
  const kind = kinds.find((one) => one.name === name) ?? kinds[0];
  return (
    <Dialog title="New trigger" onClose={onClose} wide>
      {kind === undefined ? (
        <Loading what="the kinds of triggers" />
      ) : (
        <>
          <WorkflowChoice value={workflowId} onChange={setWorkflow} />
          <KindChoice kinds={kinds} value={kind.name} onChange={setKind} />
          <NewFields key={kind.name} kind={kind} workflowId={workflowId} />
        </>
      )}
    </Dialog>
  );
}

function NewFields({ kind, workflowId }: { kind: TriggerKind; workflowId: string | undefined }) {
  const navigate = useNavigate();
  const [values, setValues] = useState<TriggerValues>({ name: kind.title, config: kind.example, inputs: "" });
  const { send, problem, isBusy } = useOperation(CreateTriggerDocument, (data) => data.createTrigger);
  const isReady = workflowId !== undefined && isComplete(values);
  const parts = () => ({ workflowId: workflowId!, kind: kind.name, config: values.config, inputs: inputsOf(values) });
  const create = async () => {
    const made = await send({ input: { ...parts(), name: values.name.trim(), idempotencyKey: newKey() } });
    const id = made?.trigger?.id;
    if (id !== undefined) await navigate({ to: "/triggers/$triggerId", params: { triggerId: id } });
  };
  return (
    <>
      <TriggerFields kind={kind} values={values} onChange={setValues} />
      <TestButton input={parts} isReady={isReady} />
      {problem && <p className="field-error wrap" role="alert">{problem}</p>}
      <div className="dialog-actions">
        <button type="button" className="primary" disabled={isBusy || !isReady} onClick={() => void create()}>
          Create
        </button>
      </div>
    </>
  );
}

function KindChoice({ kinds, value, onChange }: { kinds: readonly TriggerKind[]; value: string; onChange: (name: string) => void }) {
  const id = useId();
  return (
    <div className="form-field">
      <label htmlFor={id}>Kind</label>
      <select id={id} value={value} onChange={(event) => onChange(event.target.value)}>
        {kinds.map(({ name, title }) => (
          <option key={name} value={name}>
            {title}
          </option>
        ))}
      </select>
    </div>
  );
}
