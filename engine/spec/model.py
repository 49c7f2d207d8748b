"""The spec of a workflow as the engine sees it, and its identity. Plain frozen values; nothing here is stored.

`parse` reads every accepted shape into one: engine/spec/parser.py says how. `spec_hash` is over what runs alone.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.problems import FieldProblem
from engine.states import OnLimit
from engine.types import JSON

START, END = "__start__", "__end__"
ENDS = ("source", "target")
MAX_VISITS = 1000


class OnError(StrEnum):
    """What a node's failure means for its run."""

    FAIL = "fail"
    """The run fails."""
    CONTINUE = "continue"
    """The node's output is null and the run goes on."""
    BRANCH = "branch"
    """The run goes on by the node's port `error`."""


class Join(StrEnum):
    """When a node that several edges enter may run."""

    ALL = "all"
    """Once each of them is settled and one at least was taken."""
    ANY = "any"
    """On the first that is taken."""


@dataclass(frozen=True, slots=True)
class Retry:
    """`max_attempts` counts the first one. The pause after attempt n is backoff_s · multiplier^(n-1), at most max_s."""

    max_attempts: int = 3
    backoff_s: float = 1.0
    multiplier: float = 2.0
    max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class NodeSpec:
    id: str
    type: str
    label: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    position: JSON = None
    retry: Retry | None = None
    timeout_s: float | None = None
    on_error: OnError = OnError.FAIL
    join: Join = Join.ALL
    max_visits: int = MAX_VISITS


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """`port` None: it leaves by every port but `error`. `condition` is an expression, looked at when its source is done."""

    id: str
    source: str
    target: str
    port: str | None = None
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many runs of the workflow may be active at once, and what becomes of one more."""

    limit: int
    on_limit: OnLimit = OnLimit.QUEUE


@dataclass(frozen=True, slots=True)
class Spec:
    """`inputs` is a JSON Schema; `outputs` are templates by name."""

    inputs: JSON = None
    outputs: dict[str, JSON] | None = None
    nodes: tuple[NodeSpec, ...] = ()
    edges: tuple[EdgeSpec, ...] = ()
    concurrency: Concurrency | None = None


class SpecError(Exception):
    """A spec cannot be read or run; `problems` says where, all at once."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems[:3]))
        self.problems = problems
