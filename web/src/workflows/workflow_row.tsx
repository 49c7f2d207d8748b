/** A workflow in the list: its name, its last run, and what can be done with it. */
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useMutation } from "urql";
import { DeleteWorkflowDocument, DuplicateWorkflowDocument, WorkflowRowFragmentDoc } from "~api";
import { Dialog } from "~/shell/dialog";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { failureOf, refusalOf } from "~/shell/problems";
import { Status } from "~/shell/status";
import { Time } from "~/shell/time";

export function WorkflowRow({ workflow }: { workflow: FragmentType<typeof WorkflowRowFragmentDoc> }) {
  const { id, name, description, updatedAt, publishedVersion, runs } = readFragment(WorkflowRowFragmentDoc, workflow);
  const last = runs.nodes[0];
  const [isDeleting, setDeleting] = useState(false);
  const navigate = useNavigate();
  const [, duplicate] = useMutation(DuplicateWorkflowDocument);
  const copy = async () => {
    const { data } = await duplicate({ input: { id } });
    const made = data?.duplicateWorkflow?.workflow?.id;
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
        <button type="button" className="quiet" onClick={() => void copy()}>
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
  const [problem, setProblem] = useState<string>();
  const [{ fetching }, remove] = useMutation(DeleteWorkflowDocument);
  const confirm = async () => {
    const { data, error } = await remove({ input: { id } });
    const refusal = error ? failureOf(error) : refusalOf(data?.deleteWorkflow?.errors);
    if (refusal === undefined) onClose();
    else setProblem(refusal);
  };
  return (
    <Dialog title="Delete this workflow?" onClose={onClose}>
      <p className="wrap">“{name}”, its versions, its triggers and its runs are deleted. This cannot be undone.</p>
      {problem && <p className="field-error wrap" role="alert">{problem}</p>}
      <div className="dialog-actions">
        <button type="button" onClick={onClose}>
          Keep it
        </button>
        <button type="button" className="danger" disabled={fetching} onClick={() => void confirm()}>
          Delete
        </button>
      </div>
    </Dialog>
  );
}
