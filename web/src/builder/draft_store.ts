/**
 * The draft that is edited, its history, and how far it is saved.
 *
 *     SAVED ──edit──▶ DIRTY ──debounce──▶ SAVING ──▶ SAVED
 *                       ▲  ▲─────edit───────┘ │ ├──▶ CONFLICT ──merge──▶ DIRTY
 *                       └──── retry ── FAILED ◀──┘
 *
 * `saved` is what the server has, as this page knows it. A save sends the present spec with the revision of `saved`. An
 * edit while a save is under way stays DIRTY and is sent by the next save. A spec is never changed in place.
 * `unanswered` has what was sent without a response: the server may have saved it, and that is no conflict.
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
  | { readonly kind: "saving" }
  /** `isRefused`: the server has responded, and does not take it. */
  | { readonly kind: "failed"; readonly reason: string; readonly isRefused?: true }
  | { readonly kind: "conflict"; readonly theirs: Revision };

export interface Draft {
  readonly history: History<Spec>;
  readonly saved: Revision;
  readonly saving: Saving;
  readonly unanswered: readonly Spec[];
}

export type DraftStore = StoreApi<Draft>;

export function createDraft(saved: Revision, unsaved?: Spec): DraftStore {
  const history = unsaved === undefined ? begin(saved.spec) : record(begin(saved.spec), unsaved);
  return createStore<Draft>(() => ({ history, saved, saving: { kind: unsaved === undefined ? "saved" : "dirty" }, unanswered: [] }));
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
  sending: () => (draft: Draft): Draft => {
    const sent = draft.history.present;
    return { ...draft, saving: { kind: "saving" }, unanswered: [...draft.unanswered.filter((one) => one !== sent), sent] };
  },
  /** The server has what was sent, as `revision`. */
  accepted: (sent: Spec, revision: number) => (draft: Draft): Draft => savedAs({ spec: sent, revision })(draft),
  failed: (reason: string, isRefused = false) => (draft: Draft): Draft => ({ ...draft, saving: { kind: "failed", reason, ...(isRefused ? { isRefused } : {}) } }),
  /** The server has another revision. Nobody is asked if it is what this page has, or has sent. */
  refused: (theirs: Revision) => (draft: Draft): Draft => {
    const own = [draft.history.present, ...draft.unanswered].find((spec) => isEqual(theirs.spec, spec));
    if (own !== undefined) return savedAs({ ...theirs, spec: own })(draft);
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
    return { history: record(draft.history, present), saved: theirs, saving: { kind: isTheirs ? "saved" : "dirty" }, unanswered: [] };
  },
};

/** The server has what this page has sent. What was edited since then is unsaved. */
function savedAs(saved: Revision) {
  return (draft: Draft): Draft => ({ ...draft, saved, saving: { kind: draft.history.present === saved.spec ? "saved" : "dirty" }, unanswered: [] });
}

/** Nothing of mine is unsaved, so theirs replaces it. It can be undone like an edit. */
function adopted(draft: Draft, theirs: Revision): Draft {
  return { history: record(draft.history, theirs.spec), saved: theirs, saving: { kind: "saved" }, unanswered: [] };
}
