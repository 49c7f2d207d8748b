/** A field of any type as text: a template or an expression as it is, every other value as JSON. */
import { useState } from "react";
import type { FieldProps } from "@rjsf/utils";

/** Read what was typed: JSON where the text looks like it, else the text itself. An empty text is no value. */
export function valueOf(text: string, schema: { type?: unknown; format?: unknown }): { value?: unknown; problem?: string } {
  const trimmed = text.trim();
  if (trimmed === "") return {};
  const mayBeText = schema.type === undefined || schema.type === "string" || schema.format === "template";
  const looksLikeJson = /^([[{"]|-?\d|true$|false$|null$)/.test(trimmed) && !trimmed.startsWith("{{") && !trimmed.startsWith("{%");
  if (schema.type === "string" || !looksLikeJson) return mayBeText ? { value: text } : { value: text, problem: "This is not JSON." };
  try {
    return { value: JSON.parse(trimmed) };
  } catch (error) {
    return mayBeText ? { value: text } : { problem: `This is not JSON: ${(error as Error).message}` };
  }
}

export function shownText(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

export function ValueText({ schema, formData, onChange, name, fieldPathId, required, rawErrors, disabled, readonly }: FieldProps) {
  const [draft, setDraft] = useState<string>();
  const [problem, setProblem] = useState<string>();
  const text = draft ?? shownText(formData);
  const id = fieldPathId.$id;
  const { title, description, format } = schema;
  const isMono = format !== undefined || typeof formData === "object";
  const change = (next: string) => {
    setDraft(next);
    const read = valueOf(next, schema);
    setProblem(read.problem);
    if (read.problem === undefined) onChange(read.value, fieldPathId.path);
  };
  return (
    <div className="form-field">
      <label htmlFor={id}>
        {title ?? name}
        {required && <span aria-hidden="true"> *</span>}
        {format !== undefined && <span className="field-kind">{format}</span>}
      </label>
      <textarea
        id={id}
        className={isMono ? "mono" : undefined}
        rows={Math.min(14, Math.max(format === "code" ? 6 : 1, text.split("\n").length))}
        spellCheck={false}
        value={text}
        placeholder={hintOf(schema)}
        disabled={disabled === true || readonly === true}
        aria-describedby={`${id}-help`}
        aria-invalid={problem !== undefined || (rawErrors?.length ?? 0) > 0}
        onChange={(event) => change(event.target.value)}
        onBlur={() => problem === undefined && setDraft(undefined)}
      />
      <div id={`${id}-help`}>
        {problem !== undefined && <p className="field-error">{problem}</p>}
        {rawErrors?.map((error) => <p key={error} className="field-error">{error}</p>)}
        {description !== undefined && <p className="field-help">{description}</p>}
      </div>
    </div>
  );
}

/** An example or the default of a field, as the hint of an empty one. */
export function hintOf(schema: { examples?: unknown; [keyword: string]: unknown }): string {
  const standard = schema["x-default"];
  if (standard !== undefined) return shownText(standard);
  const example = Array.isArray(schema.examples) ? schema.examples[0] : undefined;
  return example === undefined ? "" : `e.g. ${shownText(example)}`;
}
