/** The filters of the list of runs, between the address and the API. */
import type { RunFilter, RunSource, RunStatus } from "~api";
import type { RunsFilter } from "~/routes";

export const STATUSES: readonly RunStatus[] = ["PENDING", "QUEUED", "RUNNING", "PAUSING", "PAUSED", "WAITING", "CANCELLING", "COMPLETED", "FAILED", "CANCELLED"];
export const ACTIVE: readonly RunStatus[] = STATUSES.slice(0, 7);
export const SOURCES: readonly RunSource[] = ["MANUAL", "TRIGGER", "AGENT", "RETRY", "FORK", "SUBWORKFLOW"];
export const TIMES: ReadonlyArray<readonly [string, string]> = [
  ["1h", "the last hour"],
  ["24h", "the last 24 hours"],
  ["7d", "the last 7 days"],
  ["30d", "the last 30 days"],
];
const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };
const MINUTE_MS = 60_000;

/** Return the time that a text of the address means: `24h` ago, or a time; undefined for another text. */
export function timeOf(text: string | undefined, nowMs: number): string | undefined {
  if (text === undefined) return undefined;
  const ago = /^(\d{1,5})([mhd])$/.exec(text);
  const at = ago ? Math.floor(nowMs / MINUTE_MS) * MINUTE_MS - Number(ago[1]) * UNIT_MS[ago[2]!]! : Date.parse(text);
  return Number.isFinite(at) && Math.abs(at) < 8.64e15 ? new Date(at).toISOString() : undefined;
}

function listed<Name extends string>(text: string | undefined, names: readonly Name[]): Name[] {
  const wanted = new Set(text?.split(","));
  return names.filter((name) => wanted.has(name));
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(",").map((word) => word.trim()).filter(Boolean);
}

/** Return the filter of the API. Names that it does not know are left out. */
export function filterOf(search: RunsFilter, nowMs: number): RunFilter {
  const status = listed(search.status, STATUSES);
  const source = listed(search.source, SOURCES);
  const [tags, codes] = [words(search.tag), words(search.code)];
  const [since, until] = [timeOf(search.since, nowMs), timeOf(search.until, nowMs)];
  const text = search.search?.trim().slice(0, 200);
  return {
    ...(search.workflow ? { workflowId: search.workflow } : {}),
    ...(search.trigger ? { triggerId: search.trigger } : {}),
    ...(status.length > 0 ? { status } : {}),
    ...(source.length > 0 ? { source } : {}),
    ...(tags.length > 0 ? { tags } : {}),
    ...(codes.length > 0 ? { errorCode: codes } : {}),
    ...(since === undefined ? {} : { createdAfter: since }),
    ...(until === undefined ? {} : { createdBefore: until }),
    ...(text ? { search: text } : {}),
  };
}

/** Return the filters with one of them changed. Another list begins at its first page. */
export function changedFilter(search: RunsFilter, name: keyof RunsFilter, value: string | undefined): RunsFilter {
  const { [name]: _, after: __, job: ___, ...others } = search;
  return value === undefined || value === "" ? others : { ...others, [name]: value };
}

export function isFiltered(search: RunsFilter): boolean {
  const { after: _, job: __, ...filters } = search;
  return Object.keys(filters).length > 0;
}
