/** Takes a spec from a file: in place of the draft, or added to it. Both are one edit, which can be undone. */
import { useState } from "react";
import { Dialog } from "~/shell/dialog";
import { readSpec } from "./edits/clipboard";
import type { Spec } from "./spec";

interface ImportDialogProps {
  readonly onReplace: (spec: Spec) => void;
  readonly onAdd: (text: string) => void;
  readonly onClose: () => void;
}

export function ImportDialog({ onReplace, onAdd, onClose }: ImportDialogProps) {
  const [text, setText] = useState("");
  const read = text.trim() === "" ? undefined : readSpec(text);
  const refusal = read && "refusal" in read ? read.refusal : undefined;
  const spec = read && "spec" in read ? read.spec : undefined;
  return (
    <Dialog title="Import a spec" onClose={onClose}>
      <div className="form-field">
        <label htmlFor="import-file">File</label>
        <input id="import-file" type="file" accept=".json,application/json" onChange={(event) => void event.target.files?.[0]?.text().then(setText)} />
      </div>
      <div className="form-field">
        <label htmlFor="import-text">Or its text</label>
        <textarea id="import-text" className="mono" rows={8} spellCheck={false} value={text} onChange={(event) => setText(event.target.value)} />
      </div>
      {refusal && <p className="field-error wrap" role="alert">{refusal}</p>}
      {spec && <p role="status">{spec.nodes.length} nodes, {spec.edges.length} edges.</p>}
      <div className="dialog-actions">
        <button type="button" disabled={spec === undefined || spec.nodes.length === 0} onClick={() => onAdd(text)}>
          Add to the draft
        </button>
        <button type="button" className="primary" disabled={spec === undefined} onClick={() => spec && onReplace(spec)}>
          Replace the draft
        </button>
      </div>
    </Dialog>
  );
}
