/** A workflow in the list: its name, its last run, and what can be done with it. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { DeleteWorkflowDocument, DuplicateWorkflowDocument, WorkflowRowFragmentDoc } from "~api";
import { Confirm } from "~/shell/confirm";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { newKey, useOperation } from "~/shell/operation";
import { Status } from "~/shell/status";
import { Time } from "~/shell/time";

export function WorkflowRow({ workflow }: { workflow: FragmentType<typeof WorkflowRowFragmentDoc> }) {
  const { id, name, description, updatedAt, publishedVersion, runs } = readFragment(WorkflowRowFragmentDoc, workflow);
  const last = runs.nodes[0];
  const [isDeleting, setDeleting] = useState(false);
  const navigate = useNavigate();
  const duplicate = useOperation(DuplicateWorkflowDocument, (data) => data.duplicateWorkflow);
  const copy = async () => {
    const payload = await duplicate.send({ input: { id, idempotencyKey: newKey() } });
    const made = payload?.workflow?.id;
    if (made !== undefined) await navigate({ to: "/workflows/$workflowId", params: { workflowId: made } });
  };
  return (
    <tr>
      <td>
        <Link to="/workflows/$workflowId" params={{ workflowId: id }} dir="auto">
          {name}
        </Link>
        {description && (
          <div className="faint truncate" dir="auto">
            {description}
          </div>
        )}
      </td>
      <td>
        {last ? (
          <Link to="/runs/$runId" params={{ runId: last.id }}>
            <Status status={last.status} />
          </Link>
        ) : (
          <span className="faint">never</span>
        )}
      </td>
      <td className="optional">{publishedVersion ? `Version ${publishedVersion.number}` : <span className="faint">draft only</span>}</td>
      <td className="optional">
        <Time at={updatedAt} />
      </td>
      <td className="number">
        {duplicate.problem && <span className="field-error wrap" role="alert">{duplicate.problem}</span>}
        <button type="button" className="quiet" disabled={duplicate.isBusy} onClick={() => void copy()}>
          Duplicate<span className="visually-hidden"> {name}</span>
        </button>
        <button type="button" className="quiet" onClick={() => setDeleting(true)}>
          Delete<span className="visually-hidden"> {name}</span>
        </button>
        {isDeleting && <DeleteDialog id={id} name={name} onClose={() => setDeleting(false)} />}
      </td>
    </tr>
  );
}

function DeleteDialog({ id, name, onClose }: { id: string; name: string; onClose: () => void }) {
  const [cancelRuns, setCancelRuns] = useState(false);
  const { send, problem, isBusy } = useOperation(DeleteWorkflowDocument, (data) => data.deleteWorkflow);
  const confirm = async () => {
    if (await send({ input: { id, cancelRuns } })) onClose();
  };
  return (
    <Confirm title="Delete this workflow?" action="Delete" problem={problem} isBusy={isBusy} onConfirm={() => void confirm()} onClose={onClose}>
      <p className="wrap">“{name}”, its versions, its triggers and its runs are deleted. This cannot be undone.</p>
      <label className="row">
        <input type="checkbox" checked={cancelRuns} onChange={(event) => setCancelRuns(event.target.checked)} />
        Cancel its active runs first
      </label>
    </Confirm>
  );
}
