/** What a person has entered for a trigger, and what of it is sent. */
import { parsed } from "~/shell/json_field";

export interface TriggerValues {
  readonly name: string;
  readonly config: unknown;
  /** The inputs of the run as JSON text; empty for the event itself. */
  readonly inputs: string;
}

export interface StoredTrigger {
  readonly name: string;
  readonly config: unknown;
  readonly inputs: unknown;
}

export const EVENT_ITSELF = "{{ event }}";

export function valuesOf({ name, config, inputs }: StoredTrigger): TriggerValues {
  return { name, config, inputs: inputs === EVENT_ITSELF ? "" : JSON.stringify(inputs, null, 2) };
}

function isEqual(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Return the changed fields, so that what somebody else has changed meanwhile stays. */
export function changesOf(values: TriggerValues, stored: StoredTrigger): Partial<StoredTrigger> {
  const inputs = inputsOf(values);
  return {
    ...(values.name === stored.name ? {} : { name: values.name }),
    ...(isEqual(values.config, stored.config) ? {} : { config: values.config }),
    ...(inputs === undefined || isEqual(inputs, stored.inputs) ? {} : { inputs }),
  };
}

/** Return the inputs to send; undefined if the text is no JSON. */
export function inputsOf({ inputs }: TriggerValues): unknown {
  return parsed(inputs, EVENT_ITSELF).value;
}

export function isComplete(values: TriggerValues): boolean {
  return values.name.trim() !== "" && parsed(values.inputs).problem === undefined;
}
