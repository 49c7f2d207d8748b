/**
 * The waterfall of a run: a bar for each node, and before the first one the wait in the queue. A row draws itself again
 * when its node changes; the scale is a variable of the list, so it moves all bars without drawing them again.
 */
import { memo, useCallback, useEffect, useMemo, useRef, useState, type CSSProperties } from "react";
import { useStore } from "zustand";
import { Loading } from "~/shell/notices";
import { StatusIcon, statusKind } from "~/shell/status";
import { durationText } from "~/shell/time";
import type { NodeState } from "@treadle/client";
import { isTerminal, type LiveStore } from "./live_run";
import { queuedMs, timelineRow, timelineRows, timelineSpan, type RunTimes } from "./timeline";

const TICK_MS = 250;

interface TimelineProps {
  readonly live: LiveStore;
  readonly times: RunTimes;
  readonly onNode: (node: string) => void;
}

export function Timeline({ live, times, onNode }: TimelineProps) {
  const nodes = useStore(live, (state) => state.nodes);
  const status = useStore(live, (state) => state.status);
  const nowMs = useNow(!isTerminal(status));
  const rows = useMemo(() => timelineRows(nodes.values()), [nodes]);
  // The rows are not drawn again for a new `onNode`, so they get a function that calls the latest one.
  const latest = useRef(onNode);
  useEffect(() => void (latest.current = onNode));
  const open = useCallback((node: string) => latest.current(node), []);
  if (nodes.size === 0) return <Loading what="the nodes" />;
  const { startMs, endMs } = timelineSpan(rows, times, nowMs);
  const scale = { "--end": Math.max(1, nowMs - startMs), "--span": endMs - startMs } as CSSProperties;
  const queued = queuedMs(times, nowMs);
  return (
    <div className="timeline" style={scale}>
      <div className="timeline-scale" aria-hidden="true">
        <span>0</span>
        <span>{durationText((endMs - startMs) / 2)}</span>
        <span>{durationText(endMs - startMs)}</span>
      </div>
      <ol aria-label="Timeline">
        {queued > 0 && (
          <li style={{ "--from": 0, "--for": queued } as CSSProperties}>
            <span className="timeline-name faint">in the queue</span>
            <span className="timeline-track">
              <span className="timeline-bar is-queued" />
            </span>
            <span className="timeline-time">{durationText(queued)}</span>
          </li>
        )}
        {rows.map(({ state }) => (
          <Row key={state.nodeId} state={state} originMs={startMs} onNode={open} />
        ))}
      </ol>
    </div>
  );
}

/** The time, which goes on while `isLive`. */
function useNow(isLive: boolean): number {
  const [nowMs, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!isLive) return undefined;
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, [isLive]);
  return nowMs;
}

const Row = memo(function Row({ state, originMs, onNode }: { state: NodeState; originMs: number; onNode: (node: string) => void }) {
  const { startMs, endMs } = timelineRow(state);
  const { nodeId, label, status, durationMs, visits } = state;
  const place = startMs === undefined ? {} : { "--from": startMs - originMs, ...(endMs === undefined ? {} : { "--for": endMs - startMs }) };
  return (
    <li style={place as CSSProperties}>
      <button type="button" className="quiet timeline-name" onClick={() => onNode(nodeId)} title={nodeId}>
        <StatusIcon status={status} label />
        <span className="truncate" dir="auto">
          {label || nodeId}
        </span>
        {visits > 1 && <span className="faint">×{visits}</span>}
      </button>
      <span className="timeline-track">{startMs !== undefined && <span className={`timeline-bar is-${statusKind(status)} ${endMs === undefined ? "is-open" : ""}`} />}</span>
      <span className="timeline-time">{durationMs == null ? "" : durationText(durationMs)}</span>
    </li>
  );
});
