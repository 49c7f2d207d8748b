/** Times and durations as text. */
import { useSyncExternalStore } from "react";
import { usePreferences, type TimeStyle } from "./preferences";

const TICK_MS = 10_000;
const UNITS: ReadonlyArray<readonly [Intl.RelativeTimeFormatUnit, number]> = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** One timer for all times of the page. */
function subscribe(listener: () => void): () => void {
  const timer = setInterval(listener, TICK_MS);
  return () => clearInterval(timer);
}

function now(): number {
  return Math.floor(Date.now() / TICK_MS) * TICK_MS;
}

/** Write a time in one of the three styles. */
export function timeText(at: Date, style: TimeStyle, nowMs: number): string {
  if (style === "utc") return at.toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
  if (style === "local") return local.format(at);
  const seconds = (at.getTime() - nowMs) / 1000;
  const unit = UNITS.find(([, size]) => Math.abs(seconds) >= size);
  if (unit === undefined) return seconds > 10 ? "in a moment" : "just now";
  return relative.format(Math.trunc(seconds / unit[1]), unit[0]);
}

/** A time as the person prefers it, with the exact one as its title. */
export function Time({ at }: { at: string }) {
  const style = usePreferences((state) => state.times);
  const nowMs = useSyncExternalStore(subscribe, now);
  return (
    <time dateTime={at} title={new Date(at).toISOString()}>
      {timeText(new Date(at), style, nowMs)}
    </time>
  );
}

/** Write a duration with two units at most: 12 ms, 3.4 s, 5 min 2 s, 2 h 5 min. */
export function durationText(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
