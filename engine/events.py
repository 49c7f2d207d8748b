"""The events of a run, and the node states and errors in them, as plain values.

The journal numbers an event when it commits it. From then on (run_id, seq) identifies the event in
its table row, as the id in the Redis stream and as the client's cursor.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from engine.states import EdgeStatus, EventType, LogLevel, NodeStatus, RunStatus
from engine.types import JSON


@dataclass(frozen=True, slots=True)
class RunError:
    """The reason why a node or a run failed: `code` for programs, `message` for people."""

    code: str
    message: str
    node_id: str | None = None
    retryable: bool = False
    details: JSON = None


MAX_INT = 2**31 - 1
"""The largest Int of GraphQL."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The sum of all model calls of one visit of a node.

    `cost_usd` is None if a price is not known.
    """

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None

    def check(self) -> None:
        """Raise ValueError for what is no usage: a run is stored, and counted, with its numbers."""
        for tokens in (self.input_tokens, self.output_tokens):
            if type(tokens) is not int or not 0 <= tokens <= MAX_INT:
                raise ValueError(f"the tokens of a usage must be an int from 0 to {MAX_INT:,}, not {tokens!r}")
        cost = self.cost_usd
        if cost is not None and (type(cost) not in (int, float) or not 0 <= cost < math.inf):
            raise ValueError(f"the cost_usd of a usage must be None or a number from 0, not {cost!r}")

    def __add__(self, later: "Usage") -> "Usage":
        """Add two usages.

        The model is that of the later one; the cost is None if either cost is None.
        """
        cost = None if self.cost_usd is None or later.cost_usd is None else self.cost_usd + later.cost_usd
        tokens = self.input_tokens + later.input_tokens, self.output_tokens + later.output_tokens
        return Usage(later.model, min(tokens[0], MAX_INT), min(tokens[1], MAX_INT), cost)


class EdgeVisits(NamedTuple):
    """How often an outgoing edge of a node was taken.

    `edge` is its position in the spec. `taken` is whether the latest visit that has
    ended took it.
    """

    edge: int
    visits: int
    taken: bool


@dataclass(frozen=True, slots=True)
class EdgeState:
    """The state of one edge of a run; see EdgeStatus. `visits` is how often it was taken."""

    edge_id: str
    status: EdgeStatus
    visits: int


SUPERFLUOUS = "has gone on with its first branch (join: any)"
CANCELLED_BEFORE = "Cancelled in the run that this one is a copy of"
"""How the message of a node ends that a `join: any` has cancelled, in its run and in a copy of it."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """The state of one node of one run at `seq`.

    `input` and `output` are None when absent. `has_output` distinguishes an absent output from the
    output null. `progress` is between 0 and 1. `thinking` is what a model thought before its answer,
    and `finish_reason` why it ended, in its own word.
    """

    run_id: str
    node_id: str
    status: NodeStatus = NodeStatus.IDLE
    visits: int = 0
    attempt: int = 0
    progress: float = 0.0
    message: str | None = None
    input: JSON = None
    output: JSON = None
    has_output: bool = False
    partial_output: str | None = None
    error: RunError | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    usage: Usage | None = None
    port: str | None = None
    """The named port by which the node left in this visit; None for no port, and before the end."""
    edges: tuple[EdgeVisits, ...] | None = None
    """The outgoing edges that were taken so far. None: they follow from `port` and `visits`; see
    engine.graph.edge_states."""
    thinking: str | None = None
    finish_reason: str | None = None
    seq: int = 0
    output_seq: int | None = None
    """Set if `input` and `output` are left out of this object: load them by this seq."""

    @property
    def is_superfluous(self) -> bool:
        """Whether a `join: any` has cancelled the node, and not the end of its run."""
        is_cancelled = self.status is NodeStatus.CANCELLED
        return is_cancelled and (self.message or "").endswith((SUPERFLUOUS, CANCELLED_BEFORE))


@dataclass(frozen=True, slots=True)
class StatusChange:
    """The event that a run changed from `previous` to `status`.

    `previous` is None for the first event of a run.
    """

    status: RunStatus
    previous: RunStatus | None
    message: str
    type: EventType = field(default=EventType.RUN_STATUS, init=False)
    node_id: None = field(default=None, init=False)


@dataclass(frozen=True, slots=True)
class NodeChange:
    """The event that a node's state changed. It contains the whole new state."""

    state: NodeState
    type: EventType = field(default=EventType.NODE_STATE, init=False)

    @property
    def node_id(self) -> str:
        return self.state.node_id


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """The event that a checkpoint was saved. `step` is LangGraph's number of the superstep."""

    checkpoint_id: str
    step: int
    type: EventType = field(default=EventType.CHECKPOINT, init=False)
    node_id: None = field(default=None, init=False)


@dataclass(frozen=True, slots=True)
class LogRecorded:
    """The event that a node or the engine wrote a log record."""

    level: LogLevel
    message: str
    node_id: str | None
    fields: dict[str, JSON]
    type: EventType = field(default=EventType.LOG, init=False)


@dataclass(frozen=True, slots=True)
class OutputDelta:
    """A piece of a node's streamed text.

    It has no number and may be lost; the node's state contains the whole text.
    """

    node_id: str
    visit: int
    attempt: int
    offset: int
    """The start of `text` in the node's partial output, in code points."""
    text: str


EventData = StatusChange | NodeChange | CheckpointSaved | LogRecorded
"""The content of an event, before and after the journal numbers it."""


@dataclass(frozen=True, slots=True)
class Event:
    """A numbered event of a run. The numbers of a run are 1, 2, 3 … without gaps."""

    run_id: str
    seq: int
    at: datetime
    data: EventData


@dataclass(frozen=True, slots=True)
class LiveDelta:
    """An OutputDelta for live readers. `seq` is that of the last numbered event before it."""

    run_id: str
    seq: int
    at: datetime
    data: OutputDelta
