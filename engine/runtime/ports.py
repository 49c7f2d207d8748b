"""The interfaces that the engine requires from storage: the journal and the head checkpoints.

The persistence package implements them for runs of a worker, the memory checkpointer for the items
of a map. An Entry is one commit: its events, node outputs, checkpoint and status change become
durable together or not at all, whenever the process crashes. Entries of one run are
committed in the order of the calls.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from langgraph.types import Send

from engine.events import EventData, NodeState, OutputDelta, RunError
from engine.graph.channels import NodeRecord, Signal
from engine.graph.plan import Round
from engine.sdk.node import Answerers, Output, ThreadMessage
from engine.states import RunStatus, WaitKind
from engine.types import JSON


class CheckpointStep(NamedTuple):
    """A step of a stretch: what one settled visit has changed. See engine.runtime.stretches.

    A checkpoint of a single superstep has no steps. One of a stretch has a step for each visit but
    the last, whose changes are the rest of the checkpoint.
    """

    event_count: int
    """The number of events of the entry up to the end of the step."""
    values: dict[str, Any]
    """The changed node records, joins and loops, by stored name."""
    due: list[tuple[str, Round]]
    """The nodes that became due, with the round of that visit."""


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A serialised checkpoint. `data` is a delta to `parent_id`, or all values if `is_full`.

    `steps` are the steps of its stretch, serialised; None if it has none.
    """

    id: str
    parent_id: str | None
    step: int
    is_full: bool
    data: bytes
    next_nodes: list[str]
    steps: bytes | None = None


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A wait of a node visit: for a time, an answer, another run, or the next attempt."""

    id: str
    node_id: str
    visit: int
    kind: WaitKind
    since: datetime
    until: datetime | None = None
    """When the wait ends by itself; None if it never does."""
    outcome: Output | None = None
    """The result of the node when `until` passes."""
    prompt: JSON = None
    schema: JSON = None
    answer: JSON = None
    is_answered: bool = False
    child_run_id: str | None = None
    """For kind RUN: the run that the node waits for. Its end is the answer."""
    answerers: Answerers | None = None
    """For kind INPUT: who may answer; None for every caller who may control the run."""
    event_name: str | None = None
    """For kind EVENT: the name of the event, and the key of `sendEvent` to a workflow."""
    event_key: str | None = None


@dataclass(frozen=True, slots=True)
class RunChange:
    """A change of the run's status from `expected` to `status`, with the output or the error.

    If the status in the database is not `expected`, the whole entry is refused. `wake_at` belongs
    to WAITING and PAUSED: the time when the first of the waits ends by itself.
    """

    status: RunStatus
    expected: RunStatus
    message: str | None = None
    output: JSON = None
    error: RunError | None = None
    wake_at: datetime | None = None


class AppendedMessage(NamedTuple):
    """A message that a visit of a node appends to the thread with the key `thread_key`."""

    thread_key: str
    node_id: str
    visit: int
    message: ThreadMessage


@dataclass(slots=True)
class Entry:
    """The data of one commit for one run. `epoch` is the fencing token of the writer.

    The journal numbers `events_to_write` in their order.
    """

    run_id: str
    epoch: int
    lineage: int = 0
    events_to_write: list[tuple[datetime, EventData]] = field(default_factory=list)
    checkpoint: CheckpointRecord | None = None
    opened_waits: list[OpenWait] = field(default_factory=list)
    settled_wait_ids: list[str] = field(default_factory=list)
    change: RunChange | None = None
    progress: float | None = None
    failure: RunError | None = None
    """The error with which the run is going to fail. If the worker crashes, the next one ends the
    run with it.
    """
    messages: list[AppendedMessage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ResumeState:
    """The stored state from which an executor resumes a run.

    Attributes:
        records: The record of each node, with outputs.
        values: The joins and loops by their stored names (engine.graph.position).
        due: The nodes that the Sends of the head start, in their order.
        step: The step of the head.
        waits: The open waits.
        states: The stored states of the nodes for which `AttachedRun.needs_state` is True. One after a
            visit has its input.
        before_skip: The states, with values, in which the latest visits of skipped nodes ended.
        tokens: Settled edges that an older release has stored on top of the head: the index of the
            edge, its round at the target and whether it is taken.
    """

    records: dict[str, NodeRecord]
    values: Mapping[str, Any]
    due: Mapping[str, Signal]
    step: int
    waits: list[OpenWait] = field(default_factory=list)
    states: Mapping[str, NodeState] = field(default_factory=dict)
    before_skip: Mapping[str, NodeState] = field(default_factory=dict)
    tokens: Sequence[tuple[int, Round, bool]] = ()


class Fenced(Exception):
    """The run has no claim with this epoch any more: this worker must drop it at once."""


class StatusMoved(Exception):
    """The run has `status` instead of the expected one. Nothing of the entry was written."""

    def __init__(self, status: RunStatus) -> None:
        super().__init__(f"the run is {status} now")
        self.status = status


class EntryRefused(Exception):
    """The database refuses this entry and would refuse it again. `reason` is its error message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Journal(Protocol):
    """Makes entries durable in groups, and publishes their events after the commit."""

    def commit(self, entry: Entry) -> Awaitable[int]:
        """Accept an entry at once, in the order of the calls.

        Returns:
            An awaitable that ends when the entry is durable, with the number of the run's last
            event. It waits as long as the database is not available. Awaiting it raises Fenced,
            StatusMoved or EntryRefused. When an entry fails, all later entries of the run fail.
        """
        ...

    def post(self, entry: Entry) -> None:
        """Add an entry to the next commit, within milliseconds.

        The next `commit` of the run reports a failure.
        """
        ...

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Publish streamed text to live readers, without storing it."""
        ...


class AttachedRun(Protocol):
    """A claimed run as a checkpoint saver sees it.

    RunExecutor implements it. A saver uses nothing else of the executor.
    """

    @property
    def run_id(self) -> str: ...

    @property
    def is_new(self) -> bool:
        """Whether nothing of the run is stored yet, so that there is no head to load."""
        ...

    def take_changes(self, *, is_full: bool) -> dict[str, Any]:
        """Return what a checkpoint stores of the state since the last call, by stored name.

        Args:
            is_full: Return all of the state instead. Outputs are never part of it.
        """
        ...

    def take_steps(self) -> list[CheckpointStep]:
        """Return the steps since the last checkpoint. Call it before `take_changes`."""
        ...

    @property
    def record_count(self) -> int:
        """The number of nodes that have a record."""
        ...

    @property
    def event_count(self) -> int:
        """The number of events that the next entry has so far."""
        ...

    @property
    def running_nodes(self) -> list[str]:
        """The nodes that run beside the graph, or wait for their next attempt."""
        ...

    def needs_state(self, node_id: str, record: NodeRecord) -> bool:
        """Whether the run needs the stored state of a node to continue.

        That is an unfinished visit, which keeps its start and its usage, and a node in a loop,
        whose next visit counts the edges of the earlier ones.
        """
        ...

    async def commit_superstep(self, record: CheckpointRecord, *, has_next: bool) -> None:
        """Commit a checkpoint with everything that its superstep did, the end of the run included.

        Args:
            record: The checkpoint, serialised.
            has_next: Whether the checkpoint makes another node due.
        """
        ...


class HeadStore(Protocol):
    """The store of the head checkpoints: a checkpoint saver as the executor sees it."""

    @property
    def keeps_steps(self) -> bool:
        """Whether the steps of a stretch are stored."""
        ...

    async def attach(self, run: AttachedRun) -> ResumeState | None:
        """Load the head of a run, and pass its checkpoints to `run.commit_superstep` from now on.

        Returns:
            The state to resume from; None if the run has no head yet.
        """
        ...

    def detach(self, run_id: str) -> None:
        """Forget a run. Does nothing if the run is not attached."""
        ...

    def begin(self, run_id: str, sends: Sequence[Send]) -> CheckpointRecord:
        """Make the first checkpoint of an attached run, after its first stretch.

        Args:
            run_id: The run. It has no head yet.
            sends: The nodes that are due after the stretch.
        """
        ...

    def enter(self, run_id: str, sends: Sequence[Send]) -> None:
        """Make nodes due on top of the head of an attached run. The next checkpoint has them."""
        ...

    def save(self, run_id: str) -> CheckpointRecord | None:
        """Make a checkpoint of the state as it is, outside of a superstep.

        Returns:
            The checkpoint for the next commit; None if the run has no head yet, or keeps none.
        """
        ...
