/**
 * The draft that is edited, its history, and how far it is saved.
 *
 *     SAVED ──edit──▶ DIRTY ──debounce──▶ SAVING ──▶ SAVED
 *                       ▲  ▲─────edit───────┘ │ ├──▶ CONFLICT ──merge──▶ DIRTY
 *                       └──── retry ── FAILED ◀──┘
 *
 * `saved` is what the server has, as this page knows it. A save sends the present spec with the revision of `saved`. An
 * edit while a save is under way stays DIRTY and is sent by the next save. A spec is never changed in place.
 */
import { createStore, type StoreApi } from "zustand/vanilla";
import { isEqual } from "./edits/merge";
import { begin, record, redo, settle, undo, type History } from "./history";
import type { Spec } from "./spec";

export interface Revision {
  readonly spec: Spec;
  readonly revision: number;
  readonly updatedBy?: string | undefined;
}

export type Saving =
  | { readonly kind: "saved" }
  | { readonly kind: "dirty" }
  | { readonly kind: "saving"; readonly sent: Spec }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "conflict"; readonly theirs: Revision };

export interface Draft {
  readonly history: History<Spec>;
  readonly saved: Revision;
  readonly saving: Saving;
}

export type DraftStore = StoreApi<Draft>;

export function createDraft(saved: Revision, unsaved?: Spec): DraftStore {
  const history = unsaved === undefined ? begin(saved.spec) : record(begin(saved.spec), unsaved);
  return createStore<Draft>(() => ({ history, saved, saving: { kind: unsaved === undefined ? "saved" : "dirty" } }));
}

function afterEdit(draft: Draft, history: History<Spec>): Draft {
  if (history.present === draft.history.present) return { ...draft, history };
  const { kind } = draft.saving;
  if (kind === "saving" || kind === "conflict") return { ...draft, history };
  return { ...draft, history, saving: { kind: history.present === draft.saved.spec ? "saved" : "dirty" } };
}

export const draftEdits = {
  edit: (change: (spec: Spec) => Spec, gesture?: string) => (draft: Draft) =>
    afterEdit(draft, record(draft.history, change(draft.history.present), gesture)),
  settle: () => (draft: Draft) => ({ ...draft, history: settle(draft.history) }),
  undo: () => (draft: Draft) => afterEdit(draft, undo(draft.history)),
  redo: () => (draft: Draft) => afterEdit(draft, redo(draft.history)),

  /** A save begins. */
  sending: () => (draft: Draft) => ({ ...draft, saving: { kind: "saving" as const, sent: draft.history.present } }),
  /** The server has what was sent, as `revision`. */
  accepted: (sent: Spec, revision: number) => (draft: Draft): Draft => {
    const kind = draft.history.present === sent ? "saved" : "dirty";
    return { ...draft, saved: { spec: sent, revision }, saving: { kind } };
  },
  failed: (reason: string) => (draft: Draft): Draft => ({ ...draft, saving: { kind: "failed", reason } }),
  /** Somebody else has saved. Nothing is asked if the two are equal, as after a save whose response was lost. */
  refused: (theirs: Revision) => (draft: Draft): Draft => {
    if (isEqual(theirs.spec, draft.history.present)) return { ...draft, saved: { ...theirs, spec: draft.history.present }, saving: { kind: "saved" } };
    if (draft.history.present === draft.saved.spec) return adopted(draft, theirs);
    return { ...draft, saving: { kind: "conflict", theirs } };
  },
  /** Somebody else has saved, and it was announced. */
  announced: (theirs: Revision) => (draft: Draft): Draft => {
    if (theirs.revision <= draft.saved.revision || draft.saving.kind === "saving" || draft.saving.kind === "conflict") return draft;
    return draftEdits.refused(theirs)(draft);
  },
  /** A person has merged: the result replaces mine as one step, and is saved on top of theirs. */
  resolved: (spec: Spec, theirs: Revision) => (draft: Draft): Draft => {
    const isTheirs = isEqual(spec, theirs.spec);
    const present = isTheirs ? theirs.spec : spec;
    return { history: record(draft.history, present), saved: theirs, saving: { kind: isTheirs ? "saved" : "dirty" } };
  },
};

/** Nothing of mine is unsaved, so theirs replaces it. It can be undone like an edit. */
function adopted(draft: Draft, theirs: Revision): Draft {
  return { history: record(draft.history, theirs.spec), saved: theirs, saving: { kind: "saved" } };
}
