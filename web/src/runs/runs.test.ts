/** A view of runs is an address, and an address never makes an operation that the API refuses. */
import { expect, test } from "vitest";
import { ACTIVE, changedFilter, filterOf, isFiltered, timeOf } from "./run_filter";
import { throttled } from "./throttle";

const NOW = Date.UTC(2026, 4, 6, 7, 8, 9);

test.each([
  [{}, {}],
  [{ status: "FAILED" }, { status: ["FAILED"] }],
  [{ status: ACTIVE.join(",") }, { status: ACTIVE }],
  [{ status: "NO_SUCH,FAILED" }, { status: ["FAILED"] }],
  [{ status: "<script>" }, {}],
  [{ source: "TRIGGER,RETRY", trigger: "trg_1" }, { source: ["TRIGGER", "RETRY"], triggerId: "trg_1" }],
  [{ tag: "a, b,,", code: "TIMEOUT" }, { tags: ["a", "b"], errorCode: ["TIMEOUT"] }],
  [{ since: "24h" }, { createdAfter: "2026-05-05T07:08:00.000Z" }],
  [{ since: "2026-01-01", until: "2026-02-01T00:00:00Z" }, { createdAfter: "2026-01-01T00:00:00.000Z", createdBefore: "2026-02-01T00:00:00.000Z" }],
  [{ since: "yesterday", search: "  " }, {}],
  [{ search: ` ${"x".repeat(300)}`, workflow: "wf_1", after: "cursor", job: "job_1" }, { search: "x".repeat(200), workflowId: "wf_1" }],
])("%o asks for %o", (search, filter) => expect(filterOf(search, NOW)).toEqual(filter));

test("a time of the address is the same for a minute", () => expect(timeOf("1h", NOW)).toBe(timeOf("1h", NOW + 40_000)));

test("a changed filter begins at the first page, and an empty one leaves the address", () => {
  const search = { status: "FAILED", tag: "a", after: "cursor", job: "job_1" };
  expect(changedFilter(search, "tag", "b")).toEqual({ status: "FAILED", tag: "b" });
  expect(changedFilter(search, "status", "")).toEqual({ tag: "a" });
  expect([isFiltered({ after: "cursor" }), isFiltered({ tag: "a" })]).toEqual([false, true]);
});

test("a flood of changes makes few reads, and the last change is always read", () => {
  const timers: Array<() => void> = [];
  let reads = 0;
  const change = throttled(() => (reads += 1), (run) => timers.push(run));
  for (let index = 0; index < 1000; index += 1) change();
  expect(reads).toBe(1);
  timers.shift()!();
  expect(reads).toBe(2);
  timers.shift()!();
  expect([reads, timers.length]).toEqual([2, 0]);
  change();
  expect(reads).toBe(3);
});
