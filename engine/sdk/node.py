"""What a node type is: one class in one file. Third parties add theirs by the entry point `treadle.nodes`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from engine.events import Usage
from engine.states import LogLevel
from engine.types import JSON

if TYPE_CHECKING:
    from engine.problems import FieldProblem
    from engine.sdk.annotations import TemplateText
    from engine.sdk.node_types import NodeTypes

ERROR_PORT = "error"
"""The port that every node has beside those of its type: for `onError: branch`."""
ANSWERED = "answered"
"""The port by which a node leaves that has waited for an answer and received it."""
EXPIRED = "expired"
"""The port by which such a node leaves when nobody has answered in time."""


class NodeConfig(BaseModel):
    """Base of every config model: unknown fields are an error, so that a typo is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Output:
    """A node finished. `port` is the named port it leaves by; None leaves by every edge without a port."""

    value: JSON
    port: str | None = None


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """A node waits for a moment and then finishes with `output`; it needs no worker meanwhile."""

    until: datetime
    output: Output


@dataclass(frozen=True, slots=True)
class WaitForAnswer:
    """A node waits for a person. `schema` is the JSON Schema of the answer."""

    prompt: JSON
    schema: JSON = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WaitForRun:
    """A node waits for a run that it has started; that run's output is the node's, its failure too."""

    run_id: str


Outcome = Output | WaitUntil | WaitForAnswer | WaitForRun


class NodeContext(Protocol):
    """What a node may touch while it runs."""

    @property
    def run_id(self) -> str: ...
    @property
    def project_id(self) -> str: ...
    @property
    def scopes(self) -> frozenset[str]:
        """What whoever started the run may do."""
        ...

    @property
    def node_id(self) -> str: ...
    @property
    def visit(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def idempotency_key(self) -> str:
        """`run/lineage/node/visit`: the same for every attempt, so that a target can tell a repeat."""
        ...

    @property
    def inputs(self) -> JSON:
        """The run's input."""
        ...

    @property
    def resources(self) -> Mapping[str, Any]:
        """Long-lived things of the worker, by name: `sandbox` (a pool of Monty processes)."""
        ...

    def render(self, value: JSON) -> JSON:
        """Renders every template inside `value`; raises NodeFailure(TEMPLATE)."""
        ...

    def evaluate(self, expression: str) -> JSON:
        """Evaluates one expression; raises NodeFailure(TEMPLATE)."""
        ...

    def note_input(self, value: JSON) -> None:
        """Records what the node was given, for people who look at the run."""
        ...

    def progress(self, fraction: float, message: str | None = None) -> None: ...
    def log(self, level: LogLevel, message: str, **fields: JSON) -> None: ...
    def text(self, delta: str) -> None:
        """Streams text out of the node: shown live, kept as `partialOutput`."""
        ...

    def hide(self, values: Iterable[str]) -> None:
        """From now on nothing that the node tells, its output and errors included, shows one of these texts."""
        ...

    def used(self, usage: Usage) -> None:
        """Adds what a call to a model took."""
        ...


class PortUndecided(Exception):
    """The output of a node does not tell by which of its `ports` the node leaves. `example` is an output that does."""

    def __init__(self, ports: Sequence[str], example: str | None = None) -> None:
        super().__init__(", ".join(ports))
        self.ports, self.example = tuple(ports), example


ConfigT = TypeVar("ConfigT", bound=NodeConfig)


class NodeType(Generic[ConfigT]):
    """A kind of node. Stateless: one instance serves every node of its kind.

    `inline` is True for a quick, pure type: its nodes run inside a superstep of the graph. All other nodes run as tasks
    beside the graph, so that none of them holds up another branch. `ends_run` is True for a type whose output is the run's
    output, unless the spec has `outputs`. `ports` are the named ports beyond `error`; `ports_from` names the path in config
    that adds ports.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    category: ClassVar[str] = "logic"
    icon: ClassVar[str] = "box"
    Config: ClassVar[type[NodeConfig]]
    inline: ClassVar[bool] = False
    ends_run: ClassVar[bool] = False
    ports: ClassVar[tuple[str, ...]] = ()
    ports_from: ClassVar[str | None] = None
    output_schema: ClassVar[dict[str, Any]] = {}
    example: ClassVar[dict[str, Any]] = {}
    deprecated: ClassVar[str | None] = None
    instead_of_timeout: ClassVar[str | None] = None
    """For a type that ends with a wait, which `timeoutS` does not limit: what is said to an author who sets it."""

    def ports_of(self, config: ConfigT) -> tuple[str, ...]:
        """The named ports a node with this config has, `error` left out."""
        return self.ports

    def port_of(self, config: ConfigT, output: JSON) -> str | None:
        """Return the port by which a node of this type leaves with `output`, for an output that replaces the node's own.

        A fork uses it where a user patches the output of a node. A type with named ports overrides it if its output tells
        the port. A type whose nodes wait for an answer always leaves by `answered`.

        Args:
            config: The config of the node.
            output: The new output, any JSON.

        Returns:
            The named port, or None to leave by the edges that have no port.

        Raises:
            PortUndecided: The output does not tell the port.
        """
        ports = self.ports_of(config)
        if not ports:
            return None
        if set(ports) == {ANSWERED, EXPIRED}:
            return ANSWERED
        raise PortUndecided(ports)

    def among(self, types: "NodeTypes") -> Self:
        """Itself as one of `types`: a type whose config has nodes in it finds theirs there."""
        return self

    def texts_within(self, raw: JSON, path: str) -> "Iterator[TemplateText]":
        """Templates and expressions of the nodes inside this raw config, which stands at `path`."""
        return iter(())

    def problems_within(self, raw: JSON, path: str) -> "Iterator[FieldProblem]":
        """What is wrong with the nodes inside this raw config, templates left out. Never raises, whatever `raw` is."""
        return iter(())

    async def execute(self, config: ConfigT, ctx: NodeContext) -> Outcome:
        raise TypeError(f"node type {self.name!r} has no execute method")
