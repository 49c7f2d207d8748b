/** The head of the builder: the name, how far the draft is saved, and what can be done. */
import { Link } from "@tanstack/react-router";
import type { FieldProblem } from "@treadle/client";
import { DraftFactsFragmentDoc, type BuilderQuery } from "~api";
import { readFragment } from "~/shell/fragments";
import type { Draft, Saving } from "./draft_store";
import { Menu, type MenuItem } from "./menu";

interface EditorHeadProps {
  readonly workflow: NonNullable<BuilderQuery["workflow"]>;
  readonly draft: Draft;
  readonly problems: readonly FieldProblem[];
  readonly onAdd: () => void;
  readonly onUndo: () => void;
  readonly onRedo: () => void;
  readonly onRun: () => void;
  readonly onConflict: () => void;
  readonly onProblems: () => void;
  readonly onVersions: () => void;
  readonly arrange: readonly MenuItem[];
  readonly isArranging: boolean;
  readonly more: readonly MenuItem[];
}

export function EditorHead({ workflow, draft, problems, onAdd, onUndo, onRedo, onRun, onConflict, onProblems, onVersions, arrange, isArranging, more }: EditorHeadProps) {
  const errors = problems.filter(({ severity }) => severity === "ERROR").length;
  const { history, saving, saved } = draft;
  return (
    <div className="run-head">
      <h1 className="truncate" dir="auto">
        {workflow.name}
      </h1>
      <SavingText saving={saving} revision={saved.revision} onConflict={onConflict} />
      <span className="grow" />
      <button type="button" className="quiet" onClick={onProblems}>
        {problems.length === 0 ? "No problems" : errors > 0 ? `✕ ${errors} ${errors === 1 ? "error" : "errors"}` : `! ${problems.length} ${problems.length === 1 ? "warning" : "warnings"}`}
      </button>
      <button type="button" className="quiet icon-button" aria-label="Undo" title="Undo (Mod+Z)" disabled={history.past.length === 0} onClick={onUndo}>
        ↶
      </button>
      <button type="button" className="quiet icon-button" aria-label="Redo" title="Redo (Mod+Shift+Z)" disabled={history.future.length === 0} onClick={onRedo}>
        ↷
      </button>
      <button type="button" onClick={onAdd} title="Add a node (/)">
        Add node
      </button>
      <Menu title="Arrange" items={arrange} isBusy={isArranging} />
      <Menu title="More" items={more} />
      <Link to="/runs" search={{ workflow: workflow.id }} className="button">
        Runs
      </Link>
      <Publish workflow={workflow} isSaved={saving.kind === "saved"} onVersions={onVersions} />
      <button type="button" className="primary" disabled={saving.kind === "conflict"} onClick={onRun}>
        Run
      </button>
    </div>
  );
}

function SavingText({ saving, revision, onConflict }: { saving: Saving; revision: number; onConflict: () => void }) {
  if (saving.kind === "conflict") {
    return (
      <button type="button" className="danger" onClick={onConflict}>
        ✕ Somebody else has saved: merge
      </button>
    );
  }
  const text = {
    saved: `Saved, revision ${revision}`,
    dirty: "Not saved yet",
    saving: "Saving …",
    failed: "Not saved: it is tried again",
  }[saving.kind];
  return (
    <span className={saving.kind === "failed" ? "field-error" : "faint"} role="status" title={saving.kind === "failed" ? saving.reason : undefined}>
      {text}
    </span>
  );
}

/** What runs by default, and whether the draft has more than that. The panel of versions publishes. */
function Publish({ workflow, isSaved, onVersions }: { workflow: EditorHeadProps["workflow"]; isSaved: boolean; onVersions: () => void }) {
  const { matchesVersion } = readFragment(DraftFactsFragmentDoc, workflow.draft);
  const published = workflow.publishedVersion;
  const isPublished = isSaved && published != null && matchesVersion?.id === published.id;
  return (
    <button type="button" onClick={onVersions} title={published ? `Version ${published.number} is published now` : "No version is published"}>
      {isPublished ? `✓ Version ${published.number}` : published ? `Publish changes since ${published.number} …` : "Publish …"}
    </button>
  );
}
