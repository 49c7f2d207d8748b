/** Saves the draft by itself: a moment after the last edit, one save at a time, again after a failure. */
import type { Client } from "urql";
import { SaveDraftDocument } from "~api";
import { failureOf, refusalOf } from "~/shell/problems";
import { draftEdits, type DraftStore } from "./draft_store";
import { specOf } from "./spec";

const DEBOUNCE_MS = 700;
const RETRY_MS = [1000, 2000, 5000, 10_000];
const UNSAVED = "treadle:unsaved:";

export class Autosave {
  readonly #workflowId: string;
  readonly #store: DraftStore;
  readonly #client: Client;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #active: Promise<void> | undefined;
  readonly #unsubscribe: () => void;
  /** What the browser's storage has from this page. Another tab with the same draft writes there as well. */
  #kept: string | null;

  constructor(workflowId: string, store: DraftStore, client: Client) {
    this.#workflowId = workflowId;
    this.#kept = localStorage.getItem(UNSAVED + workflowId);
    this.#store = store;
    this.#client = client;
    this.#unsubscribe = store.subscribe((draft, last) => {
      if (draft.history.present !== last.history.present || draft.saving.kind !== last.saving.kind) this.#plan();
    });
    addEventListener("storage", this.#keepAgain);
    this.#plan();
  }

  stop(): void {
    clearTimeout(this.#timer);
    removeEventListener("storage", this.#keepAgain);
    this.#unsubscribe();
  }

  /** Keep what is unsaved in this browser, and save it after a moment. */
  #plan(): void {
    const { saving } = this.#store.getState();
    clearTimeout(this.#timer);
    if (saving.kind === "saved") return this.#forget();
    this.#keep();
    if (saving.kind === "dirty") this.#timer = setTimeout(() => void this.flush(), DEBOUNCE_MS);
    if (saving.kind === "failed") {
      const pause = RETRY_MS[Math.min(this.#failures - 1, RETRY_MS.length - 1)];
      this.#timer = setTimeout(() => void this.flush(), pause);
    }
  }

  /** A browser without space for the edits does not keep them, and they are saved all the same. */
  #keep(): void {
    const { history, saved } = this.#store.getState();
    const text = JSON.stringify({ base: saved, spec: history.present });
    try {
      localStorage.setItem(UNSAVED + this.#workflowId, text);
      this.#kept = text;
    } catch (error) {
      console.warn(`Edits are not kept in this browser before they are saved: ${String(error)}`);
    }
  }

  /** Remove what this page has kept, and not what another tab keeps. */
  #forget(): void {
    const key = UNSAVED + this.#workflowId;
    if (this.#kept !== null && localStorage.getItem(key) === this.#kept) localStorage.removeItem(key);
    this.#kept = null;
  }

  /** Another tab that has saved its own edits removes them, and they may have replaced those of this page. */
  readonly #keepAgain = ({ key, newValue }: StorageEvent): void => {
    const isRemoved = key === UNSAVED + this.#workflowId && newValue === null;
    if (isRemoved && this.#store.getState().saving.kind !== "saved") this.#keep();
  };

  /** Save now what is unsaved. Resolves when the draft is saved, or cannot be. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    while (true) {
      await this.#active;
      const { kind } = this.#store.getState().saving;
      if (kind !== "dirty" && kind !== "failed") return;
      this.#active = this.#save();
      await this.#active;
      if (this.#store.getState().saving.kind === "failed") return;
    }
  }

  async #save(): Promise<void> {
    this.#store.setState(draftEdits.sending());
    const { history, saved } = this.#store.getState();
    const sent = history.present;
    const input = { workflowId: this.#workflowId, spec: sent, expectedRevision: saved.revision };
    const { data, error } = await this.#client.mutation(SaveDraftDocument, { input }).toPromise();
    const payload = data?.saveDraft;
    this.#failures = error ? this.#failures + 1 : 0;
    if (payload?.draft) return this.#store.setState(draftEdits.accepted(sent, payload.draft.revision));
    const conflict = payload?.errors.find((problem) => "draft" in problem && problem.draft);
    if (conflict && "draft" in conflict && conflict.draft) {
      const { spec, revision, updatedBy } = conflict.draft;
      return this.#store.setState(draftEdits.refused({ spec: specOf(spec), revision, updatedBy }));
    }
    this.#failures = Math.max(1, this.#failures);
    this.#store.setState(draftEdits.failed(error ? failureOf(error) : (refusalOf(payload?.errors) ?? "The server has not saved it."), error === undefined));
  }
}

/** Return the edits of an earlier visit that were not saved. */
export function unsavedOf(workflowId: string): { base: { spec: unknown; revision: number }; spec: unknown } | undefined {
  const text = localStorage.getItem(UNSAVED + workflowId);
  return text === null ? undefined : JSON.parse(text);
}
