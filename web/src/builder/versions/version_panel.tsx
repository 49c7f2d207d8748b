/** The versions of a workflow: what each has changed, and which one runs. The draft is the first of the list. */
import { useMemo, useState } from "react";
import { useClient, useMutation, useQuery, type CombinedError } from "urql";
import {
  ArchiveVersionDocument, CreateVersionDocument, PublishVersionDocument, RestoreVersionDocument, UpdateVersionDocument,
  VersionDiffDocument, VersionRowFragmentDoc, VersionsDocument, type ProblemPartsFragmentDoc, type VersionRowFragment,
} from "~api";
import { readFragment, type FragmentType } from "~/shell/fragments";
import { Failure, Loading } from "~/shell/notices";
import { failureOf, refusalOf } from "~/shell/problems";
import { Time } from "~/shell/time";
import type { DraftStore } from "../draft_store";
import { draftEdits } from "../draft_store";
import { specOf } from "../spec";
import { SpecDiff } from "./spec_diff";

export interface VersionPanelProps {
  readonly workflowId: string;
  readonly draftId: string;
  readonly store: DraftStore;
  readonly isSaved: boolean;
  readonly revision: number;
  readonly flush: () => Promise<void>;
  /** The version that the address names. */
  readonly selected: string | undefined;
  readonly onSelect: (version: string | undefined) => void;
  readonly onGo: (node: string) => void;
}

const STATUS = { DRAFT: "not published", PUBLISHED: "published", ARCHIVED: "archived" } as const;

export function VersionPanel(props: VersionPanelProps) {
  const { workflowId, draftId, isSaved, revision, selected, onSelect, onGo } = props;
  const [{ data, error }, refetch] = useQuery({ query: VersionsDocument, variables: { workflowId } });
  const read = () => refetch({ requestPolicy: "network-only" });
  const actions = useVersionActions(props, read);
  const versions = readFragment(VersionRowFragmentDoc, data?.workflow?.versions.nodes ?? []);
  if (error && !data) return <Failure title="The versions could not be read" text={failureOf(error)} onRetry={read} />;
  if (!data) return <Loading what="the versions" />;
  const published = data.workflow?.publishedVersion;
  const newest = published ?? versions[0];
  return (
    <div className="node-panel">
      {actions.problem && <p className="field-error wrap" role="alert">{actions.problem}</p>}
      <section>
        <h3>Draft, revision {revision}</h3>
        {newest === undefined ? (
          <p className="faint">There is no version yet. A version is what runs in production; it never changes.</p>
        ) : (
          <>
            <p className="faint">What it has beyond version {newest.number}:</p>
            <Diff key={revision} from={newest.id} to={draftId} isReady={isSaved} onGo={onGo} />
          </>
        )}
        <NewVersion isBusy={actions.isBusy} onCreate={actions.create} />
      </section>
      <section>
        <h3>Versions</h3>
        <ul className="version-list">
          {versions.map((version, index) => (
            <VersionItem
              key={version.id}
              version={version}
              before={versions[index + 1]}
              draftId={draftId}
              isOpen={version.id === selected || String(version.number) === selected}
              actions={actions}
              onOpen={(isOpen) => onSelect(isOpen ? String(version.number) : undefined)}
              onGo={onGo}
            />
          ))}
        </ul>
        {data.workflow?.versions.pageInfo.hasNextPage && <p className="faint">The 50 newest versions. Older ones can be read by the API.</p>}
      </section>
    </div>
  );
}

/** The difference of two versions, or of a version and the draft. It is read anew each time, as a draft changes. */
function Diff({ from, to, isReady = true, onGo }: { from: string; to: string; isReady?: boolean; onGo: (node: string) => void }) {
  const [{ data, error }, refetch] = useQuery({ query: VersionDiffDocument, variables: { from, to }, requestPolicy: "network-only", pause: !isReady });
  if (error) return <Failure title="The difference could not be read" text={failureOf(error)} onRetry={() => refetch({ requestPolicy: "network-only" })} />;
  if (!data?.diffVersions) return <Loading what="the difference" rows={1} />;
  return <SpecDiff diff={data.diffVersions} onGo={onGo} />;
}

function NewVersion({ isBusy, onCreate }: { isBusy: boolean; onCreate: (note: string, publish: boolean) => Promise<boolean> }) {
  const [note, setNote] = useState("");
  const create = async (publish: boolean) => {
    if (await onCreate(note, publish)) setNote("");
  };
  return (
    <div className="form-field">
      <label htmlFor="version-note">What is new</label>
      <textarea id="version-note" rows={2} dir="auto" maxLength={10_000} value={note} onChange={(event) => setNote(event.target.value)} />
      <div className="row">
        <button type="button" className="primary" disabled={isBusy} onClick={() => void create(true)}>
          Publish the draft
        </button>
        <button type="button" disabled={isBusy} onClick={() => void create(false)}>
          Only keep as a version
        </button>
      </div>
    </div>
  );
}

interface VersionItemProps {
  readonly version: VersionRowFragment;
  readonly before: VersionRowFragment | undefined;
  readonly draftId: string;
  readonly isOpen: boolean;
  readonly actions: VersionActions;
  readonly onOpen: (isOpen: boolean) => void;
  readonly onGo: (node: string) => void;
}

function VersionItem({ version, before, draftId, isOpen, actions, onOpen, onGo }: VersionItemProps) {
  const { id, number, status, createdAt, createdBy, name, note } = version;
  const [compared, compare] = useState<"before" | "draft">("before");
  const pair = compared === "draft" ? { from: id, to: draftId } : before && { from: before.id, to: id };
  return (
    <li>
      <button type="button" className="quiet version-head" aria-expanded={isOpen} onClick={() => onOpen(!isOpen)}>
        <strong>Version {number}</strong>
        <span className={status === "PUBLISHED" ? "is-completed" : "faint"}>{status === "PUBLISHED" ? "✓ " : ""}{STATUS[status]}</span>
        <span className="faint version-facts">
          <Time at={createdAt} /> by {createdBy}
        </span>
        {(name ?? note) && <span className="version-note truncate" dir="auto">{name ?? note}</span>}
      </button>
      {isOpen && (
        <div className="version-body">
          <NoteField key={note} note={note ?? ""} onSave={(text) => void actions.annotate(id, text)} />
          <div className="row version-actions">
            {status !== "PUBLISHED" && (
              <button type="button" disabled={actions.isBusy} onClick={() => void actions.publish(id)}>
                Publish
              </button>
            )}
            {status !== "ARCHIVED" && (
              <button type="button" disabled={actions.isBusy} onClick={() => void actions.archive(id)}>
                Archive
              </button>
            )}
            <button type="button" disabled={actions.isBusy} onClick={() => void actions.restore(id)} title="The draft gets the spec of this version">
              Restore into the draft
            </button>
          </div>
          <label className="row">
            Compare
            <select value={compared} onChange={(event) => compare(event.target.value as "before" | "draft")}>
              <option value="before">{before ? `version ${before.number} with it` : "nothing before it"}</option>
              <option value="draft">it with the draft</option>
            </select>
          </label>
          {pair && <Diff key={compared} {...pair} onGo={onGo} />}
        </div>
      )}
    </li>
  );
}

function NoteField({ note, onSave }: { note: string; onSave: (text: string) => void }) {
  const [text, setText] = useState(note);
  return (
    <textarea
      aria-label="Note"
      placeholder="A note on this version"
      rows={2}
      dir="auto"
      maxLength={10_000}
      value={text}
      onChange={(event) => setText(event.target.value)}
      onBlur={() => text !== note && onSave(text)}
    />
  );
}

interface Payload {
  readonly errors: ReadonlyArray<FragmentType<typeof ProblemPartsFragmentDoc>>;
}

interface VersionActions {
  readonly isBusy: boolean;
  readonly problem: string | undefined;
  readonly create: (note: string, publish: boolean) => Promise<boolean>;
  readonly publish: (versionId: string) => Promise<boolean>;
  readonly archive: (versionId: string) => Promise<boolean>;
  readonly restore: (versionId: string) => Promise<boolean>;
  readonly annotate: (versionId: string, note: string) => Promise<boolean>;
}

function useVersionActions({ workflowId, store, flush }: VersionPanelProps, read: () => void): VersionActions {
  const client = useClient();
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();
  const [, restoreDraft] = useMutation(RestoreVersionDocument);
  return useMemo(() => {
    /** Send, and read the list again. With the draft: save it first. Returns whether the server has done it. */
    const perform = async (send: () => Promise<{ error?: CombinedError | undefined; payload: Payload | null | undefined }>, withDraft = false) => {
      setBusy(true);
      if (withDraft) await flush();
      const unsaved = withDraft && store.getState().saving.kind !== "saved";
      const { error, payload } = unsaved ? { error: undefined, payload: undefined } : await send();
      const refusal = unsaved ? "The draft is not saved, so nothing was done." : error ? failureOf(error) : refusalOf(payload?.errors);
      setBusy(false);
      setProblem(refusal);
      if (refusal === undefined) read();
      return refusal === undefined;
    };
    return {
      create: (note: string, publish: boolean) =>
        perform(async () => {
          const expectedRevision = store.getState().saved.revision;
          const input = { workflowId, expectedRevision, publish, ...(note.trim() === "" ? {} : { note }) };
          const { data, error } = await client.mutation(CreateVersionDocument, { input });
          return { error, payload: data?.createVersion };
        }, true),
      publish: (versionId: string) =>
        perform(async () => {
          const { data, error } = await client.mutation(PublishVersionDocument, { input: { versionId } });
          return { error, payload: data?.publishVersion };
        }),
      archive: (versionId: string) =>
        perform(async () => {
          const { data, error } = await client.mutation(ArchiveVersionDocument, { input: { versionId } });
          return { error, payload: data?.archiveVersion };
        }),
      annotate: (versionId: string, note: string) =>
        perform(async () => {
          const { data, error } = await client.mutation(UpdateVersionDocument, { input: { versionId, note: note.trim() === "" ? null : note } });
          return { error, payload: data?.updateVersion };
        }),
      restore: (versionId: string) =>
        perform(async () => {
          const { data, error } = await restoreDraft({ input: { versionId, expectedRevision: store.getState().saved.revision } });
          const draft = data?.restoreVersion?.draft;
          // The draft is replaced as one step, which can be undone.
          if (draft) store.setState(draftEdits.announced({ spec: specOf(draft.spec), revision: draft.revision, updatedBy: draft.updatedBy }));
          return { error, payload: data?.restoreVersion };
        }, true),
      isBusy,
      problem,
    };
  }, [client, flush, isBusy, problem, read, restoreDraft, store, workflowId]);
}
