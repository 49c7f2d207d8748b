/** The rows of the timeline: which node ran when, in the order of their starts, and those that have not started last. */
import type { NodeState } from "@treadle/client";

export interface TimelineRow {
  readonly state: NodeState;
  /** Milliseconds since the epoch; undefined before the start. */
  readonly startMs: number | undefined;
  /** Undefined for a node that goes on. */
  readonly endMs: number | undefined;
}

export interface TimelineSpan {
  readonly startMs: number;
  readonly endMs: number;
}

export function timelineRow(state: NodeState): TimelineRow {
  const startMs = state.startedAt == null ? undefined : Date.parse(state.startedAt);
  const isDone = state.completedAt != null || !["RUNNING", "RETRYING", "WAITING"].includes(state.status);
  const lastMs = state.completedAt == null ? (startMs ?? 0) + (state.durationMs ?? 0) : Date.parse(state.completedAt);
  return { state, startMs, endMs: startMs === undefined || !isDone ? undefined : Math.max(startMs, lastMs) };
}

/** Return the rows in the order of their starts. The sort is stable, so equal starts keep the order of the spec. */
export function timelineRows(states: Iterable<NodeState>): TimelineRow[] {
  return [...states].map(timelineRow).sort((a, b) => (a.startMs ?? Infinity) - (b.startMs ?? Infinity) || 0);
}

/** The times of a run, as texts: of its creation, its first start and its end. */
export interface RunTimes {
  readonly createdAt?: string | undefined;
  readonly startedAt?: string | null | undefined;
  readonly finishedAt?: string | null | undefined;
}

/** Return the milliseconds of the wait in the queue. A run that was cancelled before its start has waited until its end. */
export function queuedMs({ createdAt, startedAt, finishedAt }: RunTimes, nowMs: number): number {
  if (createdAt === undefined) return 0;
  const end = startedAt ?? finishedAt;
  return Math.max(0, (end == null ? nowMs : Date.parse(end)) - Date.parse(createdAt));
}

/** Return from when to when the timeline goes: from the creation of the run to its last end, or to now while it goes on. */
export function timelineSpan(rows: readonly TimelineRow[], times: RunTimes, nowMs: number): TimelineSpan {
  const started = rows.filter(({ startMs }) => startMs !== undefined);
  const starts = started.map(({ startMs }) => startMs!);
  const createdMs = times.createdAt === undefined ? Infinity : Date.parse(times.createdAt);
  const startMs = Math.min(...starts, createdMs);
  if (!Number.isFinite(startMs)) return { startMs: nowMs, endMs: nowMs + 1 };
  const queueEndMs = Number.isFinite(createdMs) ? createdMs + queuedMs(times, nowMs) : startMs;
  return { startMs, endMs: Math.max(startMs + 1, queueEndMs, ...started.map((row) => row.endMs ?? nowMs)) };
}
