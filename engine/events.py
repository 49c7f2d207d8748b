"""What happens in a run, as plain values: errors, node states and events. Numbered by the journal, never here.

An event has no `seq` until the journal commits it; from then on it is (run_id, seq) everywhere: row, stream id, cursor.
"""

from dataclasses import dataclass, field
from datetime import datetime

from engine.states import EventType, LogLevel, NodeStatus, RunStatus
from engine.types import JSON


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a node or a run failed: `code` for programs, `message` for people."""

    code: str
    message: str
    node_id: str | None = None
    retryable: bool = False
    details: JSON = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What one visit of a node took of a model, all of its calls together. `cost_usd` is None where no price is known."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, later: "Usage") -> "Usage":
        """Both together, under the later one's name. One price that is not known makes the sum unknown."""
        cost = None if self.cost_usd is None or later.cost_usd is None else self.cost_usd + later.cost_usd
        tokens = self.input_tokens + later.input_tokens, self.output_tokens + later.output_tokens
        return Usage(later.model, *tokens, cost)


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node of one run as it stands at `seq`. `input`/`output` are None when absent; see `has_output`."""

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
    seq: int = 0
    output_seq: int | None = None
    """Set where `input` and `output` are not filled in here: they are stored at this seq, to be loaded when asked for."""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A run went from `previous` to `status`. `previous` is None for the first event of a run."""

    status: RunStatus
    previous: RunStatus | None
    message: str
    type: EventType = field(default=EventType.RUN_STATUS, init=False)
    node_id: None = field(default=None, init=False)


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node's state changed; carries the whole new state."""

    state: NodeState
    type: EventType = field(default=EventType.NODE_STATE, init=False)

    @property
    def node_id(self) -> str:
        return self.state.node_id


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    checkpoint_id: str
    step: int
    type: EventType = field(default=EventType.CHECKPOINT, init=False)
    node_id: None = field(default=None, init=False)


@dataclass(frozen=True, slots=True)
class LogRecorded:
    level: LogLevel
    message: str
    node_id: str | None
    fields: dict[str, JSON]
    type: EventType = field(default=EventType.LOG, init=False)


@dataclass(frozen=True, slots=True)
class OutputDelta:
    """Text as it streams out of a node. Live only: it has no number and may be lost; the node's state keeps the whole."""

    node_id: str
    visit: int
    attempt: int
    offset: int
    """Where `text` starts in the node's partial output, in code points."""
    text: str


EventData = StatusChange | NodeChange | CheckpointSaved | LogRecorded
"""What an event tells, before and after it has a number."""


@dataclass(frozen=True, slots=True)
class Event:
    """A numbered event of a run: 1, 2, 3 … without gaps."""

    run_id: str
    seq: int
    at: datetime
    data: EventData


@dataclass(frozen=True, slots=True)
class LiveDelta:
    """Text on its way to live readers. `seq` is that of the last numbered event before it."""

    run_id: str
    seq: int
    at: datetime
    data: OutputDelta
