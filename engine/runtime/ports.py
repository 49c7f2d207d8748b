"""What the engine needs from outside: a journal that makes things durable. Storage and processes implement these.

An Entry is all or nothing: its events, node outputs, checkpoint, pending writes and status change are one commit, or none of
them happened. Entries of one run are committed in the order in which they were given.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from engine.events import EventData, OutputDelta, RunError, Usage
from engine.graph.channels import NodeRecord, Write
from engine.sdk.node import Output
from engine.states import RunStatus, WaitKind
from engine.types import JSON


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """One checkpoint, serialised. `data` is a change over `parent_id` unless `is_full`."""

    id: str
    parent_id: str | None
    step: int
    is_full: bool
    data: bytes
    next_nodes: list[str]


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """A write that belongs to no checkpoint yet: replayed on top of `checkpoint_id` after a crash."""

    checkpoint_id: str
    task_id: str
    idx: int
    channel: str
    value: bytes


@dataclass(frozen=True, slots=True)
class OpenWait:
    """What a node waits for: a moment, or an answer until then. It ends as `outcome` when `until` passes."""

    id: str
    node_id: str
    visit: int
    kind: WaitKind
    since: datetime
    until: datetime | None = None
    outcome: Output | None = None
    prompt: JSON = None
    schema: JSON = None
    answer: JSON = None
    is_answered: bool = False
    child_run_id: str | None = None
    """The run whose end is the answer, where `kind` is RUN."""


@dataclass(frozen=True, slots=True)
class RunChange:
    """The run goes from `expected` to `status`; refused, with all of its entry, where it stands elsewhere.

    `wake_at` belongs to WAITING: when the first of its waits is over by itself.
    """

    status: RunStatus
    expected: RunStatus
    message: str | None = None
    output: JSON = None
    error: RunError | None = None
    wake_at: datetime | None = None


@dataclass(slots=True)
class Entry:
    """What is to be committed for one run under one fencing token. `events_to_write` are numbered in their order."""

    run_id: str
    epoch: int
    lineage: int = 0
    events_to_write: list[tuple[datetime, EventData]] = field(default_factory=list)
    checkpoint: CheckpointRecord | None = None
    writes: list[PendingWrite] = field(default_factory=list)
    waits: list[OpenWait] = field(default_factory=list)
    """Opened by this entry."""
    settled: list[str] = field(default_factory=list)
    """Ids of waits that are over with this entry."""
    change: RunChange | None = None
    progress: float | None = None
    failure: RunError | None = None
    """The run is going to fail with this: whoever takes it up after a crash ends it so."""


@dataclass(frozen=True, slots=True)
class ResumeState:
    """Where a run stands when it is taken up: its head, with what came in on top of it."""

    slots: dict[str, NodeRecord]
    step: int
    is_due: bool
    """Whether a wave may follow: something is due, or may be once the writes on top are applied."""
    is_held: bool
    """Whether a breakpoint has put a turn off."""
    waits: list[OpenWait]
    usage: Mapping[str, Usage] = field(default_factory=dict)
    """What visits that are under way have taken so far, by node: whoever goes on with them adds to it."""


class Fenced(Exception):
    """The run belongs to another worker now, or to nobody: this one must drop it without a further word."""


class StatusMoved(Exception):
    """The status change lost: the run stands at `status` now. Nothing of the entry was written."""

    def __init__(self, status: RunStatus) -> None:
        super().__init__(f"the run is {status} now")
        self.status = status


class EntryRefused(Exception):
    """The database refuses this entry and would refuse it again; `reason` says what it said."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Journal(Protocol):
    """Makes entries durable and publishes what they tell, in groups."""

    def commit(self, entry: Entry) -> Awaitable[int]:
        """Takes the entry now; to be awaited for the run's last event number once it is durable.

        That raises Fenced, StatusMoved or EntryRefused; otherwise it waits for as long as the database is away. When an entry
        fails, so do those of the run that were given after it.
        """
        ...

    def post(self, entry: Entry) -> None:
        """Lets an entry ride with the next commit, within milliseconds. A failure shows at the run's next `commit`."""
        ...

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Shows text to live readers; nothing is stored."""
        ...


class AttachedRun(Protocol):
    """A claimed run as a checkpoint saver sees it. RunExecutor implements it; a saver knows nothing else of the executor."""

    @property
    def run_id(self) -> str: ...

    @property
    def is_new(self) -> bool:
        """Whether nothing of the run is stored yet, so that there is no head to load."""
        ...

    @property
    def records(self) -> dict[str, NodeRecord]:
        """The live record of each node, with outputs. The graph's channel shares this object."""
        ...

    @property
    def running_nodes(self) -> list[str]:
        """The nodes that run beside the graph."""
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

    async def attach(self, run: AttachedRun) -> ResumeState | None:
        """Load the head of a run, and pass its checkpoints to `run.commit_superstep` from now on.

        Returns:
            The state to resume from; None if the run has no head yet.
        """
        ...

    def detach(self, run_id: str) -> None:
        """Forget a run. Does nothing if the run is not attached."""
        ...

    def enter(self, run_id: str, writes: Sequence[Write]) -> tuple[list[Write], list[PendingWrite]]:
        """Add writes from outside of the graph to the head of an attached run.

        Returns:
            The writes that the next Command must bring into the graph, and the rows that make them durable.
        """
        ...
