/** Sets the value of a secret. The value leaves the page with the request, and stays nowhere in it. */
import { useId, useState } from "react";
import { SetSecretDocument } from "~api";
import { Dialog } from "~/shell/dialog";
import { newKey, useOperation } from "~/shell/operation";
import { ProjectChoice, type Projects } from "~/shell/projects";
import "~/forms/forms.css";

/** The secret that is set; without a name it is a new one. */
export interface SecretTarget {
  readonly name?: string;
  readonly projectId?: string;
}

interface SecretDialogProps {
  readonly target: SecretTarget;
  readonly projects: Projects;
  readonly onClose: () => void;
}

export function SecretDialog({ target, projects, onClose }: SecretDialogProps) {
  const id = useId();
  const [name, setName] = useState(target.name ?? "");
  const [value, setValue] = useState("");
  const [projectId, setProject] = useState(target.projectId);
  const { send, problem, isBusy } = useOperation(SetSecretDocument, (data) => data.setSecret);
  const isNew = target.name === undefined;
  const save = async () => {
    const input = { name: name.trim(), value, idempotencyKey: newKey(), ...(projectId === undefined ? {} : { projectId }) };
    if (await send({ input })) onClose();
  };
  return (
    <Dialog title={isNew ? "New secret" : `Set ${target.name}`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        {isNew && (
          <>
            <ProjectChoice projects={projects} value={projectId} onChange={setProject} />
            <div className="form-field">
              <label htmlFor={`${id}-name`}>Name</label>
              <input id={`${id}-name`} className="mono" value={name} autoComplete="off" onChange={(event) => setName(event.target.value)} />
            </div>
          </>
        )}
        <div className="form-field">
          <label htmlFor={`${id}-value`}>Value</label>
          <input id={`${id}-value`} type="password" autoComplete="off" value={value} onChange={(event) => setValue(event.target.value)} />
          <p className="field-help">It is stored encrypted. Nobody can read it here again.</p>
        </div>
        {problem && <p className="field-error wrap" role="alert">{problem}</p>}
        <div className="dialog-actions">
          <button type="submit" className="primary" disabled={isBusy || name.trim() === "" || value === ""}>
            {isNew ? "Create" : "Set"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
