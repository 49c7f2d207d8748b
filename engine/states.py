"""Every status there is, and which one may follow which. Below all other rooms: it imports nothing of ours.

docs/state_machine.md draws this; persistence turns each arrow into a guarded UPDATE that says whether it won.
Nobody writes another: see `check_move`.
"""

from collections.abc import Iterable
from enum import StrEnum


class RunStatus(StrEnum):
    """The life of a run. Every active status has a deadline and a meaning for it; terminal ones never change."""

    PENDING = "PENDING"
    """Created, not started. Waits for executeRun."""
    QUEUED = "QUEUED"
    """Accepted: a worker may claim it."""
    RUNNING = "RUNNING"
    """Claimed by one worker, under a lease."""
    PAUSING = "PAUSING"
    """Asked to pause; nodes still running are finishing."""
    PAUSED = "PAUSED"
    """At rest by request; resumes from its last checkpoint."""
    WAITING = "WAITING"
    """Nothing can go on until a timer fires or a person answers. No worker, no lease."""
    CANCELLING = "CANCELLING"
    """Asked to cancel; its code has not stopped yet."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    """Cancelled, and its code has stopped."""

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL

    @property
    def is_resting(self) -> bool:
        """True where nothing moves until somebody or something outside acts."""
        return self in RESTING


TERMINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
RESTING = TERMINAL | {RunStatus.PAUSED, RunStatus.WAITING}
LEASED = frozenset({RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING})
"""Statuses in which a worker may hold a lease on the run."""

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


def check_move(before: RunStatus, after: RunStatus) -> None:
    """Whoever writes a status asks first. Raises ValueError: what asks for such a move is wrong itself."""
    if after not in TRANSITIONS[before]:
        raise ValueError(f"a run that is {before} cannot become {after}: docs/state_machine.md has no such arrow")


class NodeStatus(StrEnum):
    """The life of one node in a run; a loop's node goes round again from its last status."""

    IDLE = "IDLE"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    """Failed, and sleeping before its next attempt."""
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    """Every way to it was not taken."""

    @property
    def is_settled(self) -> bool:
        return self in SETTLED


SETTLED = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.CANCELLED, NodeStatus.SKIPPED})
EXECUTED = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED})
"""Statuses of a node that has run to its end: it has an output or an error, and counts as done."""
UNFINISHED = frozenset({NodeStatus.RUNNING, NodeStatus.WAITING})
"""Statuses that a checkpoint holds for a node that has begun a visit and not ended it. After a crash the visit is repeated."""


def progress_of(statuses: Iterable[NodeStatus], total: int) -> float:
    """Compute the progress of a run from the statuses of its nodes.

    Args:
        statuses: The status of each node that has one. Nodes without a status count as not done.
        total: How many nodes the spec has.

    Returns:
        The executed share of the nodes that the run can still reach (skipped nodes left out), from 0.0 to 1.0.
    """
    seen = list(statuses)
    return progress_from_counts(sum(map(EXECUTED.__contains__, seen)), seen.count(NodeStatus.SKIPPED), total)


def progress_from_counts(executed: int, skipped: int, total: int) -> float:
    """Compute the same as `progress_of` from counts that the caller maintains, in constant time."""
    return executed / max(total - skipped, 1)


def sql_list(statuses: Iterable[StrEnum]) -> str:
    """Write statuses as a SQL list in parentheses, sorted by name: `('FAILED', 'RUNNING')`.

    SQL text is built from the sets of this module with it, so that no statement repeats a set by hand.
    """
    return f"({', '.join(repr(str(status)) for status in sorted(statuses))})"


class RunAction(StrEnum):
    EXECUTE = "EXECUTE"
    CANCEL = "CANCEL"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    ANSWER = "ANSWER"
    STEP = "STEP"
    RETRY = "RETRY"
    FORK = "FORK"


class RunSource(StrEnum):
    MANUAL = "MANUAL"
    TRIGGER = "TRIGGER"
    AGENT = "AGENT"
    RETRY = "RETRY"
    FORK = "FORK"
    SUBWORKFLOW = "SUBWORKFLOW"


class RunMode(StrEnum):
    ASYNC = "ASYNC"
    SYNC = "SYNC"


class RetryFrom(StrEnum):
    START = "START"
    FAILED = "FAILED"


class WaitKind(StrEnum):
    TIMER = "TIMER"
    INPUT = "INPUT"
    RUN = "RUN"
    """Another run, started by the node: its end is the answer."""


class OnLimit(StrEnum):
    """What becomes of a new run while its workflow runs as often as its spec allows."""

    QUEUE = "queue"
    REJECT = "reject"
    CANCEL_OLDEST = "cancelOldest"


class VersionStatus(StrEnum):
    DRAFT = "DRAFT"
    PUBLISHED = "PUBLISHED"
    ARCHIVED = "ARCHIVED"


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Severity(StrEnum):
    ERROR = "ERROR"
    WARNING = "WARNING"


class EventType(StrEnum):
    """What a numbered event of a run tells; the first four columns of history a client can filter by."""

    RUN_STATUS = "RUN_STATUS"
    NODE_STATE = "NODE_STATE"
    CHECKPOINT = "CHECKPOINT"
    LOG = "LOG"
