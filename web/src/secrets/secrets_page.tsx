/** The secrets: their names, and when they were used. Values can be set and are never read. */
import { useState } from "react";
import { useQuery } from "urql";
import { DeleteSecretDocument, SecretRowFragmentDoc, SecretsDocument, type SecretRowFragment } from "~api";
import { Confirm } from "~/shell/confirm";
import { readFragment } from "~/shell/fragments";
import { Empty, Failure, Loading } from "~/shell/notices";
import { newKey, useOperation } from "~/shell/operation";
import { failureOf } from "~/shell/problems";
import { ProjectChoice, useProjects } from "~/shell/projects";
import { Time } from "~/shell/time";
import { SecretDialog, type SecretTarget } from "./secret_dialog";

export function SecretsPage() {
  const { projects, projectId, setProject } = useProjects();
  const [{ data, error }, refetch] = useQuery({ query: SecretsDocument, variables: projectId ? { projectId } : {} });
  const [edited, setEdited] = useState<SecretTarget>();
  const secrets = readFragment(SecretRowFragmentDoc, data?.secrets);
  return (
    <div className="view">
      <div className="view-head">
        <h1>Secrets</h1>
        <ProjectChoice projects={projects} value={projectId} onChange={setProject} />
        <button type="button" className="primary" onClick={() => setEdited(projectId === undefined ? {} : { projectId })}>
          New secret
        </button>
      </div>
      {error && !data && <Failure title="The secrets could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} />}
      {!data && !error && <Loading what="secrets" />}
      {data && !secrets && <Empty title="You may not see the secrets of this project" />}
      {secrets?.length === 0 && (
        <Empty title="No secret yet">
          <p>A secret is a credential that nodes use by its name, such as an API key. Its value is stored encrypted, and no page shows it.</p>
        </Empty>
      )}
      {secrets && secrets.length > 0 && <SecretTable secrets={secrets} hasProjects={projects.length > 1} onEdit={setEdited} />}
      {edited && <SecretDialog target={edited} projects={projects} onClose={() => setEdited(undefined)} />}
    </div>
  );
}

interface SecretTableProps {
  readonly secrets: readonly SecretRowFragment[];
  readonly hasProjects: boolean;
  readonly onEdit: (target: SecretTarget) => void;
}

function SecretTable({ secrets, hasProjects, onEdit }: SecretTableProps) {
  const [deleted, setDeleted] = useState<SecretRowFragment>();
  return (
    <>
      <table className="list">
        <thead>
          <tr>
            <th scope="col">Name</th>
            {hasProjects && <th scope="col">Project</th>}
            <th scope="col" className="optional">Last used</th>
            <th scope="col">Set</th>
            <th scope="col"><span className="visually-hidden">Actions</span></th>
          </tr>
        </thead>
        <tbody>
          {secrets.map((secret) => (
            <tr key={secret.id}>
              <td className="mono">{secret.name}</td>
              {hasProjects && <td dir="auto">{secret.project.name}</td>}
              <td className="optional">{secret.lastUsedAt ? <Time at={secret.lastUsedAt} /> : <span className="faint">never</span>}</td>
              <td>
                <Time at={secret.updatedAt} /> <span className="faint">by {secret.updatedBy}</span>
              </td>
              <td className="number">
                <button type="button" className="quiet" onClick={() => onEdit({ name: secret.name, projectId: secret.project.id })}>
                  Set value<span className="visually-hidden"> of {secret.name}</span>
                </button>
                <button type="button" className="quiet" onClick={() => setDeleted(secret)}>
                  Delete<span className="visually-hidden"> {secret.name}</span>
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {deleted && <DeleteSecret secret={deleted} onClose={() => setDeleted(undefined)} />}
    </>
  );
}

function DeleteSecret({ secret, onClose }: { secret: SecretRowFragment; onClose: () => void }) {
  const { send, problem, isBusy } = useOperation(DeleteSecretDocument, (data) => data.deleteSecret);
  const confirm = async () => {
    if (await send({ input: { name: secret.name, projectId: secret.project.id, idempotencyKey: newKey() } })) onClose();
  };
  return (
    <Confirm title="Delete this secret?" action="Delete" problem={problem} isBusy={isBusy} onConfirm={() => void confirm()} onClose={onClose}>
      <p className="wrap">
        Nodes that use <code>{secret.name}</code> fail from now on with the code SECRET.
      </p>
    </Confirm>
  );
}
