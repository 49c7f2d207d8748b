/** The status of a run or a node: a shape and a word, so that it never depends on colour alone. */
import { memo } from "react";
import type { NodeStatus, RunStatus } from "~api";

export type AnyStatus = NodeStatus | RunStatus;
type Kind = "idle" | "queued" | "running" | "retrying" | "waiting" | "paused" | "completed" | "failed" | "cancelled" | "skipped";

const KINDS: Record<AnyStatus, Kind> = {
  IDLE: "idle",
  PENDING: "idle",
  QUEUED: "queued",
  RUNNING: "running",
  PAUSING: "running",
  CANCELLING: "running",
  RETRYING: "retrying",
  WAITING: "waiting",
  PAUSED: "paused",
  COMPLETED: "completed",
  FAILED: "failed",
  CANCELLED: "cancelled",
  SKIPPED: "skipped",
};

const SHAPES: Record<Kind, React.ReactNode> = {
  idle: <circle cx="8" cy="8" r="5.5" />,
  queued: <circle cx="8" cy="8" r="5.5" strokeDasharray="2.2 2.2" />,
  running: <path d="M8 2.5a5.5 5.5 0 1 1-5.5 5.5" />,
  retrying: <path d="M12.8 6.2A5.2 5.2 0 1 0 13 9.5M13 2.8v3.6H9.4" />,
  waiting: <path d="M4.5 2.5h7M4.5 13.5h7M5.5 2.5c0 3 2.5 4 2.5 5.5s-2.5 2.5-2.5 5.5M10.5 2.5c0 3-2.5 4-2.5 5.5s2.5 2.5 2.5 5.5" />,
  paused: <path d="M5.5 3.5v9M10.5 3.5v9" />,
  completed: <path d="M3 8.5l3.4 3.4L13 4.8" />,
  failed: <path d="M4 4l8 8M12 4l-8 8" />,
  cancelled: <path d="M3.5 3.5h9v9h-9zM3.5 12.5l9-9" />,
  skipped: <path d="M2.5 8h2.5M6.75 8h2.5M11 8h2.5" />,
};

/** Return the words of a status: `RUNNING` is `Running`. */
export function statusWord(status: AnyStatus): string {
  return status.charAt(0) + status.slice(1).toLowerCase();
}

export function statusKind(status: AnyStatus): Kind {
  return KINDS[status];
}

export const StatusIcon = memo(function StatusIcon({ status, label }: { status: AnyStatus; label?: boolean }) {
  const kind = KINDS[status];
  const described = label === true ? { role: "img", "aria-label": statusWord(status) } : { "aria-hidden": true };
  return (
    <svg className={`status-icon is-${kind}`} viewBox="0 0 16 16" {...described}>
      {SHAPES[kind]}
    </svg>
  );
});

export function Status({ status }: { status: AnyStatus }) {
  return (
    <span className={`status is-${KINDS[status]}`}>
      <StatusIcon status={status} />
      {statusWord(status)}
    </span>
  );
}
