/** A trigger is changed only where a person has changed it. */
import { expect, test } from "vitest";
import { changesOf, EVENT_ITSELF, inputsOf, isComplete, valuesOf } from "./trigger_values";

const stored = { name: "Nightly", config: { cron: "0 3 * * *" }, inputs: EVENT_ITSELF };

test("values that nobody has changed send nothing", () => {
  expect(changesOf(valuesOf(stored), stored)).toEqual({});
  const mapped = { ...stored, inputs: { day: "{{ event.scheduledAt }}" } };
  expect(changesOf(valuesOf(mapped), mapped)).toEqual({});
});

test.each([
  [{ name: "Daily" }, { name: "Daily" }],
  [{ config: { cron: "0 4 * * *" } }, { config: { cron: "0 4 * * *" } }],
  [{ inputs: '{"a": 1}' }, { inputs: { a: 1 } }],
  [{ inputs: "{" }, {}],
  [{ inputs: "" }, {}],
])("a change %o sends %o", (change, sent) => expect(changesOf({ ...valuesOf(stored), ...change }, stored)).toEqual(sent));

test("an empty text maps the event itself, and a name and JSON are needed", () => {
  expect(inputsOf(valuesOf(stored))).toBe(EVENT_ITSELF);
  expect(isComplete(valuesOf(stored))).toBe(true);
  expect(isComplete({ ...valuesOf(stored), name: " " })).toBe(false);
  expect(isComplete({ ...valuesOf(stored), inputs: "{" })).toBe(false);
});
