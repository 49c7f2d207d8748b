/** The timeline puts nodes where they ran, also those that go on or have not started. */
import { expect, test } from "vitest";
import type { NodeState } from "@treadle/client";
import { queuedMs, timelineRows, timelineSpan } from "./timeline";

const at = (seconds: number) => new Date(seconds * 1000).toISOString();
const state = (nodeId: string, status: string, startedAt?: number, completedAt?: number) =>
  ({ nodeId, status, startedAt: startedAt === undefined ? null : at(startedAt), completedAt: completedAt === undefined ? null : at(completedAt), durationMs: null }) as unknown as NodeState;

test("rows are ordered by their starts, and nodes without one are last", () => {
  const rows = timelineRows([state("idle", "IDLE"), state("late", "RUNNING", 5), state("early", "COMPLETED", 1, 2), state("also", "COMPLETED", 1, 1)]);
  expect(rows.map((row) => [row.state.nodeId, row.startMs, row.endMs])).toEqual([
    ["early", 1000, 2000],
    ["also", 1000, 1000],
    ["late", 5000, undefined],
    ["idle", undefined, undefined],
  ]);
});

test("the span begins with the run, and goes on to now while a node does", () => {
  const rows = timelineRows([state("a", "COMPLETED", 2, 3), state("b", "RUNNING", 3)]);
  expect(timelineSpan(rows, { createdAt: at(1), startedAt: at(2) }, 9000)).toEqual({ startMs: 1000, endMs: 9000 });
  expect(timelineSpan(timelineRows([state("a", "COMPLETED", 2, 3)]), { createdAt: at(1), startedAt: at(2) }, 9000)).toEqual({ startMs: 1000, endMs: 3000 });
  expect(timelineSpan([], {}, 9000)).toEqual({ startMs: 9000, endMs: 9001 });
});

test("a run that never started has waited until its end, or until now", () => {
  for (const [finishedAt, endMs] of [[undefined, 9000], [at(4), 4000]] as const) {
    const times = { createdAt: at(1), startedAt: null, finishedAt };
    expect(queuedMs(times, 9000)).toBe(endMs - 1000);
    expect(timelineSpan(timelineRows([state("idle", "IDLE")]), times, 9000)).toEqual({ startMs: 1000, endMs });
  }
});
