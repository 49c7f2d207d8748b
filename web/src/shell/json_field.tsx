/** A JSON value as text that can be edited. It says at once where the text is no JSON. */
import { useId, useState, type ReactNode } from "react";
import "~/forms/forms.css";

export type Parsed = { readonly value: unknown; readonly problem?: undefined } | { readonly problem: string; readonly value?: undefined };

/** Read a text as JSON. An empty text is `empty`. */
export function parsed(text: string, empty?: unknown): Parsed {
  if (text.trim() === "") return { value: empty };
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return { problem: `This is not JSON: ${(error as Error).message}` };
  }
}

interface JsonFieldProps {
  readonly label: string;
  readonly text: string;
  readonly onChange: (text: string) => void;
  readonly help?: ReactNode;
  readonly rows?: number;
}

export function JsonField({ label, text, onChange, help, rows = 4 }: JsonFieldProps) {
  const id = useId();
  const { problem } = parsed(text);
  return (
    <div className="form-field">
      <label htmlFor={id}>{label}</label>
      <textarea
        id={id}
        className="mono"
        rows={rows}
        spellCheck={false}
        value={text}
        aria-invalid={problem !== undefined}
        aria-describedby={`${id}-help`}
        onChange={(event) => onChange(event.target.value)}
      />
      <div id={`${id}-help`}>
        {problem && <p className="field-error">{problem}</p>}
        {help && <p className="field-help">{help}</p>}
      </div>
    </div>
  );
}

/** The text of a value in a field; an absent value is an empty text. */
export function useJsonText(initial: unknown) {
  return useState(() => (initial === undefined ? "" : JSON.stringify(initial, null, 2)));
}
