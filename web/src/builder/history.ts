/** Undo and redo of a value that is never changed in place: the values themselves are kept, so each returns exactly. */

const LIMIT = 500;

export interface History<Value> {
  readonly past: readonly Step<Value>[];
  readonly present: Value;
  readonly future: readonly Step<Value>[];
}

interface Step<Value> {
  readonly value: Value;
  /** Edits with the same name of a gesture are one step. */
  readonly gesture: string | undefined;
}

export function begin<Value>(value: Value): History<Value> {
  return { past: [], present: value, future: [] };
}

/** Add an edit. Edits that follow each other with the same `gesture` are undone together. */
export function record<Value>(history: History<Value>, value: Value, gesture?: string): History<Value> {
  const { past, present } = history;
  if (value === present) return history;
  const last = past[past.length - 1];
  const continues = gesture !== undefined && last?.gesture === gesture && history.future.length === 0;
  if (continues) return { past, present: value, future: [] };
  return { past: [...past, { value: present, gesture }].slice(-LIMIT), present: value, future: [] };
}

/** End a gesture: the next edit is a step of its own. */
export function settle<Value>(history: History<Value>): History<Value> {
  const last = history.past[history.past.length - 1];
  if (last?.gesture === undefined) return history;
  return { ...history, past: [...history.past.slice(0, -1), { value: last.value, gesture: undefined }] };
}

export function undo<Value>({ past, present, future }: History<Value>): History<Value> {
  const last = past[past.length - 1];
  if (last === undefined) return { past, present, future };
  return { past: past.slice(0, -1), present: last.value, future: [{ value: present, gesture: undefined }, ...future] };
}

export function redo<Value>({ past, present, future }: History<Value>): History<Value> {
  const next = future[0];
  if (next === undefined) return { past, present, future };
  return { past: [...past, { value: present, gesture: undefined }], present: next.value, future: future.slice(1) };
}
