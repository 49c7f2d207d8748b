"""The enums of the domain, and the state machine of a run.

docs/state_machine.md draws the state machine. The persistence package turns each transition into a
guarded UPDATE that reports whether it changed the row, and calls `check_transition` first. This
module imports no other module of ours.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum


class RunStatus(StrEnum):
    """The status of a run. Every active status has a deadline; a terminal status never changes."""

    PENDING = "PENDING"
    """Created, not started. `executeRun` starts it."""
    QUEUED = "QUEUED"
    """Accepted. A worker may claim it."""
    RUNNING = "RUNNING"
    """Claimed by one worker, which holds a lease on it."""
    PAUSING = "PAUSING"
    """A pause was requested. The nodes that were running still run to their end."""
    PAUSED = "PAUSED"
    """Paused on request. The run resumes from its last checkpoint."""
    WAITING = "WAITING"
    """No node can run until a timer fires, a person answers or a child run ends. No worker holds
    a lease.
    """
    CANCELLING = "CANCELLING"
    """A cancel was requested. The run's code has not stopped yet."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    """Cancelled. The run's code has stopped."""

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL

    @property
    def is_idle(self) -> bool:
        """Whether the run is terminal, PAUSED or WAITING.

        Its status then changes only by a request, a timer, an answer or the end of a child run.
        """
        return self in IDLE


TERMINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
IDLE = TERMINAL | {RunStatus.PAUSED, RunStatus.WAITING}
LEASED = frozenset({RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING})
"""Statuses in which a worker may hold a lease on the run."""
WITH_TIMEOUT = frozenset({RunStatus.QUEUED, RunStatus.WAITING})
"""Statuses without a worker in which recovery ends a run that is past its timeout."""
WITH_DEADLINE = frozenset({RunStatus.PENDING, RunStatus.PAUSED, RunStatus.WAITING})
"""Statuses without a worker in which recovery ends a run that is past its `deadline_at`."""

TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.QUEUED, RunStatus.CANCELLED}),
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.QUEUED,
            RunStatus.PAUSING,
            RunStatus.PAUSED,
            RunStatus.WAITING,
            RunStatus.CANCELLING,
            RunStatus.COMPLETED,
            RunStatus.FAILED,
        }
    ),
    RunStatus.PAUSING: frozenset({RunStatus.PAUSED, RunStatus.CANCELLING, RunStatus.COMPLETED, RunStatus.FAILED}),
    RunStatus.PAUSED: frozenset({RunStatus.QUEUED, RunStatus.CANCELLED}),
    RunStatus.WAITING: frozenset({RunStatus.QUEUED, RunStatus.PAUSED, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.CANCELLING: frozenset({RunStatus.CANCELLED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}


def check_transition(before: RunStatus, after: RunStatus) -> None:
    """Check that a run may go from one status to another. Call it before every write of a status.

    Raises:
        ValueError: The state machine has no such transition, so the caller has a bug.
    """
    if after not in TRANSITIONS[before]:
        raise ValueError(f"a run that is {before} cannot become {after}: docs/state_machine.md has no such arrow")


class NodeStatus(StrEnum):
    """The status of one node in a run.

    A node in a loop starts its next visit from a finished status.
    """

    IDLE = "IDLE"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    """The last attempt failed. The node waits for its next attempt, and none of its code runs."""
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    """No edge into the node was taken."""

    @property
    def is_finished(self) -> bool:
        return self in FINISHED


FINISHED = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.CANCELLED, NodeStatus.SKIPPED})
EXECUTED = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED})
"""Statuses of a node that has run to its end: it has an output or an error, and counts as done."""
WITHOUT_OUTPUT = frozenset({NodeStatus.SKIPPED, NodeStatus.CANCELLED})
"""Statuses of a finished node that has no output, also if an earlier visit had one."""
WITH_WAIT = frozenset({NodeStatus.RETRYING, NodeStatus.WAITING})
"""Statuses of a node that has an open wait. After a crash it goes on waiting."""
IN_PROGRESS = WITH_WAIT | {NodeStatus.RUNNING}
"""Statuses of a node that has begun a visit and not ended it. After a crash a RUNNING node starts
its attempt again.
"""


_WITH_FRACTION = frozenset(NodeStatus) - EXECUTED - {NodeStatus.SKIPPED}


class ProgressCounter:
    """The progress of a run: the mean over the nodes that it can still reach.

    A node that has run to its end counts 1, and an unfinished one its own progress. A skipped one is
    left out, and so is one that a `join: any` has cancelled. A node whose failure ends the run, or
    that is cancelled because the run ends, keeps its own progress. The counter is maintained with
    each change of a node, so that a change costs the same in a large graph.
    """

    def __init__(self, total: int, statuses: Mapping[str, NodeStatus] | None = None) -> None:
        """`total` is the number of nodes of the spec; `statuses` are those at the beginning, by node."""
        self._total = total
        self._statuses = {name: _counted(status, ends_run=False) for name, status in (statuses or {}).items()}
        counts = Counter(self._statuses.values())
        self._executed = sum(counts[status] for status in EXECUTED)
        self._skipped = counts[NodeStatus.SKIPPED]
        self._fractions: dict[str, float] = {}
        """The progress of each node that is not executed, where it is not 0."""

    def set(self, node_id: str, status: NodeStatus, fraction: float = 0.0, *, ends_run: bool = False) -> None:
        """Record the status and the progress of a node.

        `ends_run`: its failure ends the run, or the end of the run has cancelled it.
        """
        before, status = self._statuses.get(node_id), _counted(status, ends_run=ends_run)
        self._statuses[node_id] = status
        self._count(before, -1)
        self._count(status, 1)
        if self._fractions:
            self._fractions.pop(node_id, None)
        if status is NodeStatus.FAILED and ends_run:
            self._fractions[node_id] = fraction - 1.0
        elif fraction and status in _WITH_FRACTION:
            self._fractions[node_id] = fraction

    def _count(self, status: NodeStatus | None, change: int) -> None:
        # By identity: each event of each run comes here, and the hash of an enum is a Python call.
        if status is NodeStatus.COMPLETED or status is NodeStatus.FAILED:
            self._executed += change
        elif status is NodeStatus.SKIPPED:
            self._skipped += change

    @property
    def value(self) -> float:
        """The progress, from 0.0 to 1.0."""
        return (self._executed + sum(self._fractions.values())) / max(self._total - self._skipped, 1)


def _counted(status: NodeStatus, *, ends_run: bool) -> NodeStatus:
    """Return the status as which a node counts: a cancelled one cannot be reached while its run goes on."""
    return NodeStatus.SKIPPED if status is NodeStatus.CANCELLED and not ends_run else status


def progress_of(statuses: Iterable[NodeStatus], total: int) -> float:
    """Compute the progress of a run in which no node is running.

    Args:
        statuses: The status of each node that has one. Nodes without a status count as not done.
        total: How many nodes the spec has.

    Returns:
        The same as a ProgressCounter, from 0.0 to 1.0.
    """
    return ProgressCounter(total, {str(number): status for number, status in enumerate(statuses)}).value


def sql_list(statuses: Iterable[StrEnum]) -> str:
    """Write statuses as a SQL list in parentheses, sorted by name: `('FAILED', 'RUNNING')`.

    SQL text is built from the sets of this module with it, so that no statement repeats a set by
    hand.
    """
    return f"({', '.join(repr(str(status)) for status in sorted(statuses))})"


class EdgeStatus(StrEnum):
    """Whether an edge was taken in the latest visit of its source."""

    PENDING = "PENDING"
    """The source has not run yet, or runs again."""
    TAKEN = "TAKEN"
    """The source left by this edge."""
    SKIPPED = "SKIPPED"
    """The source left by other edges, or was skipped."""


class RunAction(StrEnum):
    """A request that a client may make for a run in its current status."""

    EXECUTE = "EXECUTE"
    CANCEL = "CANCEL"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    ANSWER = "ANSWER"
    STEP = "STEP"
    RETRY = "RETRY"
    FORK = "FORK"


class RunSource(StrEnum):
    """The origin of a run."""

    MANUAL = "MANUAL"
    TRIGGER = "TRIGGER"
    AGENT = "AGENT"
    RETRY = "RETRY"
    FORK = "FORK"
    SUBWORKFLOW = "SUBWORKFLOW"


class RunMode(StrEnum):
    """Whether a mutation returns when the run is accepted (ASYNC), or when it can go no further (SYNC)."""

    ASYNC = "ASYNC"
    SYNC = "SYNC"


class RetryFrom(StrEnum):
    """The place from which a retry of a run continues."""

    START = "START"
    FAILED = "FAILED"


class WaitKind(StrEnum):
    """The event that a waiting node waits for."""

    TIMER = "TIMER"
    INPUT = "INPUT"
    RUN = "RUN"
    """The node started another run and waits for its end."""
    RETRY = "RETRY"
    """An attempt of the node failed. The next one begins when the wait ends."""
    EVENT = "EVENT"
    """The node waits for an event that a system outside sends."""


class SignalStatus(StrEnum):
    """The result of an event that was sent to runs. docs/signals.md draws it."""

    KEPT = "KEPT"
    """No run waits for it yet."""
    DELIVERED = "DELIVERED"
    """It has ended the wait of a run, or of several."""
    DUPLICATE = "DUPLICATE"
    """The callback address was used before, with the same content."""
    REFUSED = "REFUSED"
    """It came too late, or does not match the schema, or its address is forged or was used before."""
    EXPIRED = "EXPIRED"
    """No run has waited for it in time."""


class OnLimit(StrEnum):
    """The effect on a new run while its workflow has as many active runs as its spec allows."""

    QUEUE = "queue"
    REJECT = "reject"
    CANCEL_OLDEST = "cancelOldest"


class TriggerEventStatus(StrEnum):
    """The result of one firing of a trigger. docs/triggers.md draws it."""

    FIRED = "FIRED"
    """A run was accepted."""
    DUPLICATE = "DUPLICATE"
    """The trigger has fired for this deduplication key before."""
    SKIPPED = "SKIPPED"
    """The rules of the trigger, or a limit, allow no run."""
    FAILED = "FAILED"
    """No run can be accepted: no version is published, or the inputs are invalid."""
    TEST = "TEST"
    """It was a test."""


class EndpointEvent(StrEnum):
    """An event that an endpoint may receive. docs/notifications.md describes the messages."""

    RUN_COMPLETED = "RUN_COMPLETED"
    RUN_FAILED = "RUN_FAILED"
    RUN_CANCELLED = "RUN_CANCELLED"
    RUN_WAITING = "RUN_WAITING"
    """A run waits for a timer, a person, an event or a child run."""
    TRIGGER_DISABLED = "TRIGGER_DISABLED"
    """A trigger was disabled, after failures or by a person."""
    ALERT = "ALERT"
    """An alert rule fires, or does not any more."""


class DeliveryStatus(StrEnum):
    """The status of a delivery to an endpoint. docs/notifications.md draws it."""

    PENDING = "PENDING"
    """It waits for its next attempt."""
    DELIVERED = "DELIVERED"
    """The endpoint has answered with a status 2xx."""
    FAILED = "FAILED"
    """All attempts have failed, or the endpoint does not exist any more. It can be resent."""


class AlertState(StrEnum):
    """The state of an alert rule. docs/alerts.md draws it."""

    OK = "OK"
    FIRING = "FIRING"
    """The value is, or was until lately, beyond the threshold."""


class AlertMetric(StrEnum):
    """The value that an alert rule compares with its threshold."""

    FAILURE_RATE = "FAILURE_RATE"
    """FAILED runs, as a part of the FAILED and COMPLETED ones of the window."""
    LATENCY_P95 = "LATENCY_P95"
    """The duration that 95 % of the runs of the window did not exceed, in milliseconds."""
    COST = "COST"
    """The cost of the runs of the window, in USD."""
    NO_RUNS = "NO_RUNS"
    """How many runs ended in the window. It fires at 0."""
    QUEUE_AGE = "QUEUE_AGE"
    """How long the oldest QUEUED run has been queued, in seconds."""


class VersionStatus(StrEnum):
    """The status of a version of a workflow."""

    DRAFT = "DRAFT"
    PUBLISHED = "PUBLISHED"
    ARCHIVED = "ARCHIVED"


class LogLevel(StrEnum):
    """The level of a log record of a run."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Severity(StrEnum):
    """Whether a problem makes a spec invalid (ERROR) or not (WARNING)."""

    ERROR = "ERROR"
    WARNING = "WARNING"


class EventType(StrEnum):
    """The kind of an event of a run. Clients filter a run's history and its live updates by it."""

    RUN_STATUS = "RUN_STATUS"
    NODE_STATE = "NODE_STATE"
    CHECKPOINT = "CHECKPOINT"
    LOG = "LOG"
    EDGE_STATE = "EDGE_STATE"
    """Live only: it follows from the states of nodes."""
    OUTPUT_DELTA = "OUTPUT_DELTA"
    """Live only: text that a node streams."""
    PROGRESS = "PROGRESS"
    """Live only: it follows from the states of nodes."""
