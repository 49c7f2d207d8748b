/** The fields of a trigger: its name, a form from the schema of its kind, and how an event becomes inputs. */
import { lazy, Suspense, useId } from "react";
import type { TriggerKindsQuery } from "~api";
import { JsonField } from "~/shell/json_field";
import { Loading } from "~/shell/notices";
import { EVENT_ITSELF, type TriggerValues } from "./trigger_values";

const SchemaForm = lazy(() => import("~/forms/schema_form"));

export type TriggerKind = NonNullable<TriggerKindsQuery["triggerKinds"]>[number];

interface TriggerFieldsProps {
  readonly kind: TriggerKind;
  readonly values: TriggerValues;
  readonly onChange: (values: TriggerValues) => void;
}

export function TriggerFields({ kind, values, onChange }: TriggerFieldsProps) {
  const id = useId();
  return (
    <>
      <div className="form-field">
        <label htmlFor={`${id}-name`}>Name</label>
        <input id={`${id}-name`} value={values.name} dir="auto" onChange={(event) => onChange({ ...values, name: event.target.value })} />
      </div>
      <p className="faint">{kind.description}</p>
      <Suspense fallback={<Loading what="the form" />}>
        <SchemaForm id={`${id}-config`} schema={kind.configSchema} value={values.config} onChange={(config) => onChange({ ...values, config })} unchecked />
      </Suspense>
      <JsonField
        label="Inputs of the run"
        text={values.inputs}
        onChange={(inputs) => onChange({ ...values, inputs })}
        help={<>JSON with templates over <code>event</code>, such as {'{"id": "{{ event.body.id }}"}'}. Empty: <code>{EVENT_ITSELF}</code>, the event itself.</>}
      />
    </>
  );
}
