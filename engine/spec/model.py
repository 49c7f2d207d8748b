"""The data model of a workflow spec, as frozen values.

engine/spec/parser.py creates them from the JSON of an author. Nothing here is stored.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.problems import FieldProblem
from engine.states import OnLimit
from engine.types import JSON

START, END = "__start__", "__end__"
"""The virtual nodes from which a run enters the graph, and by which it leaves it."""
ENDPOINTS = ("source", "target")
"""The fields of an edge that name nodes."""
MAX_VISITS = 1000
"""The default of `maxVisits`: a run in which a node has more visits fails with code LOOP_LIMIT."""


class OnError(StrEnum):
    """The effect of a node's failure on its run."""

    FAIL = "fail"
    """The run fails."""
    CONTINUE = "continue"
    """The node's output is null and the run goes on."""
    BRANCH = "branch"
    """The run leaves the node by its port `error`."""


class Join(StrEnum):
    """The condition on which a node with several incoming edges runs."""

    ALL = "all"
    """Each edge is settled, and at least one of them was taken."""
    ANY = "any"
    """One edge was taken."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The retry policy of a node.

    `max_attempts` includes the first attempt. The pause after attempt n is
    backoff_s · multiplier^(n-1) seconds, at most `max_s`. Errors that are retryable are repeated; if
    `on` names codes, exactly the errors with these codes are.
    """

    max_attempts: int = 3
    backoff_s: float = 1.0
    multiplier: float = 2.0
    max_s: float = 60.0
    on: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node of a spec. docs/spec.md describes the fields."""

    id: str
    type: str
    label: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    position: JSON = None
    retry: Retry | None = None
    timeout_s: float | None = None
    on_error: OnError = OnError.FAIL
    join: Join = Join.ALL
    cancels_others: bool = False
    """With `join: any`: whether the first branch cancels the others that lead only here."""
    max_visits: int = MAX_VISITS


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """An edge of a spec.

    `port` None means that it leaves by every port except `error`. `condition` is an expression,
    evaluated when the source has finished.
    """

    id: str
    source: str
    target: str
    port: str | None = None
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class Concurrency:
    """The limit of a workflow's active runs, and the effect on a run above it."""

    limit: int
    on_limit: OnLimit = OnLimit.QUEUE


@dataclass(frozen=True, slots=True)
class Spec:
    """A workflow spec. `inputs` is a JSON Schema; `outputs` are templates by name."""

    inputs: JSON = None
    outputs: dict[str, JSON] | None = None
    nodes: tuple[NodeSpec, ...] = ()
    edges: tuple[EdgeSpec, ...] = ()
    concurrency: Concurrency | None = None


class SpecError(Exception):
    """A spec cannot be parsed or run. `problems` lists every problem."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems[:3]))
        self.problems = problems
