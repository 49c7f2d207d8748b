/** The period of the statistics, as it is in the address. */
import type { Bucket } from "~api";

export interface Period {
  readonly name: string;
  readonly title: string;
  readonly hours: number;
  readonly bucket: Bucket;
}

export const PERIODS: readonly Period[] = [
  { name: "24h", title: "24 hours", hours: 24, bucket: "HOUR" },
  { name: "7d", title: "7 days", hours: 7 * 24, bucket: "DAY" },
  { name: "30d", title: "30 days", hours: 30 * 24, bucket: "DAY" },
  { name: "365d", title: "A year", hours: 365 * 24, bucket: "WEEK" },
];
const HOUR_MS = 3_600_000;

export function periodOf(name: string | undefined): Period {
  return PERIODS.find((period) => period.name === name) ?? PERIODS[1]!;
}

/** Return the start of the period. It is a full hour, so that a new rendering asks no new question. */
export function sinceOf({ hours }: Period, nowMs: number): string {
  return new Date(Math.floor(nowMs / HOUR_MS) * HOUR_MS - hours * HOUR_MS).toISOString();
}
