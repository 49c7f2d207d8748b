/** A form drawn from a JSON Schema. It is loaded when the first form is shown. */
import { useMemo, useRef } from "react";
import Form from "@rjsf/core";
import type { FieldTemplateProps, RJSFSchema } from "@rjsf/utils";
import { preparedForm } from "./form_schema";
import { validator } from "./validator";
import { hintOf, ValueText } from "./value_text";
import "./forms.css";

export interface SchemaFormProps {
  readonly schema: unknown;
  readonly value: unknown;
  readonly onChange: (value: unknown) => void;
  readonly onSubmit?: (value: unknown) => void;
  readonly submitLabel?: string;
  readonly id: string;
  /** Do not check before the server does. */
  readonly unchecked?: boolean;
}

/** A field with its label, its help and its errors, in one place for all kinds. */
function Field({ id, label, children, rawErrors, rawDescription, schema, hidden, required, uiSchema, displayLabel }: FieldTemplateProps) {
  if (hidden) return <div hidden>{children}</div>;
  if (uiSchema?.["ui:field"] !== undefined || !displayLabel) return <div className="form-field">{children}</div>;
  const hint = hintOf(schema as never);
  return (
    <div className="form-field">
      <label htmlFor={id}>
        {label}
        {required && <span aria-hidden="true"> *</span>}
      </label>
      {children}
      {rawErrors?.map((error) => <p key={error} className="field-error">{error}</p>)}
      {(rawDescription || hint) && (
        <p className="field-help">
          {rawDescription} {hint && <span className="mono">{hint.startsWith("e.g.") ? hint : `Default: ${hint}`}</span>}
        </p>
      )}
    </div>
  );
}

/** Remove members that a cleared control leaves as undefined, so that they are absent in JSON. */
function withoutUndefined(value: unknown): unknown {
  return value === undefined ? undefined : JSON.parse(JSON.stringify(value));
}

export function SchemaForm({ schema, value, onChange, onSubmit, submitLabel, id, unchecked }: SchemaFormProps) {
  const { schema: prepared, ui } = useMemo(() => preparedForm(schema), [schema]);
  const last = useRef<string>(undefined);
  return (
    <Form
      className="schema-form"
      schema={prepared as RJSFSchema}
      uiSchema={{ ...ui, "ui:label": false, "ui:submitButtonOptions": { norender: onSubmit === undefined, submitText: submitLabel ?? "Save" } }}
      formData={value}
      validator={validator}
      fields={{ ValueText }}
      templates={{ FieldTemplate: Field }}
      idPrefix={id}
      noHtml5Validate
      noValidate={unchecked ?? false}
      showErrorList={false}
      experimental_defaultFormStateBehavior={{ emptyObjectFields: "skipDefaults", arrayMinItems: { populate: "never" }, allOf: "skipDefaults" }}
      onChange={({ formData }) => {
        const next = withoutUndefined(formData);
        const text = JSON.stringify(next);
        // The form also reports values that it was given.
        if (text === (last.current ?? JSON.stringify(value))) return;
        last.current = text;
        onChange(next);
      }}
      {...(onSubmit === undefined ? {} : { onSubmit: ({ formData }) => onSubmit(withoutUndefined(formData) ?? {}) })}
    />
  );
}

export default SchemaForm;
