/** A JSON value as text: large ones are folded, and all can be copied and downloaded. It is never rendered as HTML. */
import { useMemo, useState } from "react";

const SHOWN_CHARACTERS = 20_000;

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "");
}

/** Offer a text as a file. */
export function download(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

export function JsonValue({ value, name }: { value: unknown; name: string }) {
  const text = useMemo(() => textOf(value), [value]);
  const [isWhole, showWhole] = useState(false);
  const shown = isWhole ? text : text.slice(0, SHOWN_CHARACTERS);
  return (
    <div className="json-value">
      <div className="json-tools">
        <button type="button" className="quiet" onClick={() => void navigator.clipboard.writeText(text)}>
          Copy
        </button>
        <button type="button" className="quiet" onClick={() => download(`${name}.json`, text)}>
          Download
        </button>
        <span className="faint">{text.length.toLocaleString("en")} characters</span>
      </div>
      <pre tabIndex={0} aria-label={name}>
        {shown}
      </pre>
      {shown.length < text.length && (
        <button type="button" onClick={() => showWhole(true)}>
          Show the other {(text.length - shown.length).toLocaleString("en")} characters
        </button>
      )}
    </div>
  );
}
