/** The draft of a view: its store, its saves, and what others save. */
import { useCallback, useEffect, useState } from "react";
import { useClient, useSubscription } from "urql";
import { useStore } from "zustand";
import { DraftChangesDocument } from "~api";
import { Autosave, unsavedOf } from "./autosave";
import { createDraft, draftEdits, type Draft, type DraftStore, type Saving } from "./draft_store";
import { specOf, type Spec } from "./spec";

export interface EditedDraft {
  readonly store: DraftStore;
  readonly draft: Draft;
  readonly spec: Spec;
  readonly edit: (change: (spec: Spec) => Spec, gesture?: string) => void;
  readonly undo: () => void;
  readonly redo: () => void;
  /** Save now; resolves when the draft is saved, or cannot be. */
  readonly flush: () => Promise<void>;
}

/** Begin with the draft of the server, and with edits of an earlier visit that were not saved. */
function firstDraft(workflowId: string, spec: unknown, revision: number): DraftStore {
  const saved = { spec: specOf(spec), revision };
  const unsaved = unsavedOf(workflowId);
  if (unsaved === undefined) return createDraft(saved);
  const mine = specOf(unsaved.spec);
  if (unsaved.base.revision === revision) return createDraft(saved, mine);
  const store = createDraft({ spec: specOf(unsaved.base.spec), revision: unsaved.base.revision }, mine);
  store.setState(draftEdits.refused(saved));
  return store;
}

export function useDraft(workflowId: string, spec: unknown, revision: number): EditedDraft {
  const client = useClient();
  const [store] = useState(() => firstDraft(workflowId, spec, revision));
  const [autosave, setAutosave] = useState<Autosave>();
  useEffect(() => {
    const started = new Autosave(workflowId, store, client);
    setAutosave(started);
    // A page that is closed keeps its edits in the browser, and asks first.
    const ask = (event: BeforeUnloadEvent) => {
      if (store.getState().saving.kind !== "saved") event.preventDefault();
    };
    window.addEventListener("beforeunload", ask);
    return () => {
      window.removeEventListener("beforeunload", ask);
      void started.flush().finally(() => started.stop());
    };
  }, [workflowId, store, client]);
  const draft = useStore(store);
  useOthers(workflowId, store, draft.saving.kind);
  const edit = useCallback((change: (now: Spec) => Spec, gesture?: string) => store.setState(draftEdits.edit(change, gesture)), [store]);
  const undo = useCallback(() => store.setState(draftEdits.undo()), [store]);
  const redo = useCallback(() => store.setState(draftEdits.redo()), [store]);
  const flush = useCallback(async () => autosave?.flush(), [autosave]);
  return { store, draft, spec: draft.history.present, edit, undo, redo, flush };
}

/** Take over what others save; what came during a save, after it. */
function useOthers(workflowId: string, store: DraftStore, kind: Saving["kind"]): void {
  const [{ data }] = useSubscription({ query: DraftChangesDocument, variables: { workflowId } });
  const theirs = data?.draft;
  useEffect(() => {
    if (theirs === undefined) return;
    const { spec, revision, updatedBy } = theirs;
    store.setState(draftEdits.announced({ spec: specOf(spec), revision, updatedBy }));
  }, [theirs, store, kind]);
}
