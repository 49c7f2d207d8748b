"""The API for authors of node types: NodeType, its config, its results and the context of a call.

Packages add node types by the entry point `treadle.nodes` and import these classes from the package
`treadle`. The built-in node types use the same classes. This module stores nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from engine.events import Usage
from engine.states import LogLevel
from engine.types import JSON

ERROR_PORT = "error"
"""The port that every node has in addition to those of its type. `onError: branch` uses it."""
ANSWERED = "answered"
"""The port by which a node leaves that has waited for an answer and received it."""
RECEIVED = "received"
"""The port by which a node leaves that has waited for an event and received it."""
EXPIRED = "expired"
"""The port by which such a node leaves when nobody has answered in time."""


class NodeConfig(BaseModel):
    """Base of the config models of node types.

    Unknown fields are an error, so that typos are found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class ThreadMessage:
    """One message of a thread. `role` is `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Output:
    """The result of a node that has finished.

    `port` is the named port by which the run leaves the node. None means every edge without a port.
    `messages` are appended to the thread of the run, in the commit that stores the result.
    """

    value: JSON
    port: str | None = None
    messages: tuple[ThreadMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """The result of a node that waits until a point in time and then finishes with `output`.

    No worker is needed during the wait.
    """

    until: datetime
    output: Output


@dataclass(frozen=True, slots=True)
class Answerers:
    """Who may answer a question: callers to whom all of this applies.

    Args:
        role: The least role in the project of the run; None for that of every answer.
        subjects: The subjects of the callers; empty for any.
        except_starter: Whether the one who started the run may not answer.
    """

    role: str | None = None
    subjects: tuple[str, ...] = ()
    except_starter: bool = False

    def to_json(self) -> JSON:
        return {"role": self.role, "subjects": list(self.subjects), "exceptStarter": self.except_starter}

    @classmethod
    def from_json(cls, value: Any) -> "Answerers | None":
        return None if value is None else cls(value["role"], tuple(value["subjects"]), value["exceptStarter"])

    def __str__(self) -> str:
        limits = [
            *([f"the role {self.role} or higher"] if self.role else []),
            *([f"one of the subjects {', '.join(self.subjects)}"] if self.subjects else []),
            *(["another caller than the one who started the run"] if self.except_starter else []),
        ]
        return " and ".join(limits) or "every caller with the role runner"


@dataclass(frozen=True, slots=True)
class WaitForAnswer:
    """The result of a node that waits for the answer of a person.

    `schema` is the JSON Schema of the answer. At `expires_at` the node finishes with the output
    null. `answerers` limits who may answer; None for every caller who may control the run.
    """

    prompt: JSON
    schema: JSON = None
    expires_at: datetime | None = None
    answerers: Answerers | None = None


@dataclass(frozen=True, slots=True)
class WaitForRun:
    """The result of a node that waits for a run that it has started.

    The node finishes with the output of that run, or fails with its error.
    """

    run_id: str


@dataclass(frozen=True, slots=True)
class WaitForEvent:
    """The result of a node that waits for an event from outside, which becomes its output.

    The event is sent by `sendEvent` to the run, or to all runs of the workflow that wait with the
    same `key`; or to the callback address of the visit. `schema` is the JSON Schema of its payload. At
    `expires_at` the node finishes with the output null.
    """

    name: str
    key: str | None = None
    schema: JSON = None
    expires_at: datetime | None = None


Wait = WaitUntil | WaitForAnswer | WaitForRun | WaitForEvent
Outcome = Output | Wait


class NodeContext(Protocol):
    """The interface between one call of a node type and its run."""

    @property
    def run_id(self) -> str: ...
    @property
    def project_id(self) -> str: ...
    @property
    def scopes(self) -> frozenset[str]:
        """The scopes of the caller who started the run."""
        ...

    @property
    def node_id(self) -> str: ...
    @property
    def visit(self) -> int:
        """The number of this visit of the node in its run, from 1. Loops visit a node again."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this attempt within the visit, from 1."""
        ...

    @property
    def idempotency_key(self) -> str:
        """`run/lineage/node/visit`.

        Every attempt has the same key, so a target can detect a repeat.
        """
        ...

    @property
    def inputs(self) -> JSON:
        """The run's input."""
        ...

    @property
    def thread_key(self) -> str | None:
        """The key of the thread of the run; None for a run without one, and in the items of a map."""
        ...

    @property
    def resources(self) -> Mapping[str, Any]:
        """Long-lived resources of the process by name, such as `http`, `tools` and `runs`."""
        ...

    def render(self, value: JSON, names: Mapping[str, JSON] | None = None) -> JSON:
        """Render every template inside `value`.

        Args:
            value: A template, or JSON with templates in it.
            names: Further values that the templates see. A node of the run hides one with its id.

        Raises:
            NodeFailure: With code TEMPLATE, if a template is wrong or its evaluation fails.
        """
        ...

    def evaluate(self, expression: str) -> JSON:
        """Evaluate one expression.

        Raises:
            NodeFailure: With code TEMPLATE, if the expression is wrong or its evaluation fails.
        """
        ...

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts at a part of the work.

        Raises:
            NodeInterrupted: The run pauses or its worker stops. Let it pass: the visit begins again
                when the run goes on.
        """
        ...

    def note_input(self, value: JSON) -> None:
        """Record the effective input of the node, shown to people as the node's `input`."""
        ...

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Report the progress of this visit, from 0.0 to 1.0."""
        ...

    def log(self, level: LogLevel, message: str, **fields: JSON) -> None:
        """Write a record to the run's log."""
        ...

    def text(self, delta: str) -> None:
        """Append text to the node's `partialOutput`. Subscribers receive it at once."""
        ...

    def thinking(self, delta: str) -> None:
        """Append text to the node's `thinking`: what a model thinks before it answers."""
        ...

    def finish_reason(self, reason: str | None) -> None:
        """Record why a model ended its answer, in its own word, as the node's `finishReason`."""
        ...

    def hide(self, values: Iterable[str]) -> None:
        """Mask these texts from now on in all that the node emits, errors included."""
        ...

    def add_usage(self, usage: Usage) -> None:
        """Add the tokens and the cost of one model call to this visit.

        Raises ValueError for numbers that are no usage, such as negative ones.
        """
        ...


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """Something in a valid config that will probably not work as its author expects.

    `path` leads to the field in the config. `line` and `column` count from 1 in its text.
    """

    path: tuple[str | int, ...]
    message: str
    line: int | None = None
    column: int | None = None


class PortUndecided(Exception):
    """An output does not determine by which of its `ports` a node leaves.

    `example` is an output that determines it.
    """

    def __init__(self, ports: Sequence[str], example: str | None = None) -> None:
        super().__init__(", ".join(ports))
        self.ports, self.example = tuple(ports), example


ConfigT = TypeVar("ConfigT", bound=NodeConfig)


class NodeType(Generic[ConfigT]):
    """Base class of node types. A node type has no state: one instance serves all its nodes.

    Attributes:
        name: The `type` of nodes in a spec, unique in an installation.
        title: A short name for people.
        description: One or two sentences for people.
        category: The group in the catalog.
        icon: The name of the icon in builders.
        Config: The config model. Fields with `json_schema_extra={"format": "template"}` (or
            `"expression"`) contain templates; validation checks them.
        inline: True for a quick, pure type, whose nodes run inside a superstep of the graph. All
            other nodes run as tasks beside the graph, so that no node delays another branch.
        ends_run: True for a type whose output is the run's output, unless the spec has `outputs`.
        ports: The named ports in addition to `error`.
        ports_from: The path in the config that adds named ports, or several paths.
        default_port: Which of `ports`, or of the paths in `ports_from`, the node leaves by if nothing
            else decides.
        output_schema: The JSON Schema of the output.
        example: A valid config, shown in the catalog.
        deprecated: A message to authors who use the type, or None.
        has_callback: True for a type whose nodes wait for an event and have a callback address.
        waits: True for a type whose `execute` returns a wait. `timeoutS` and `retry` of a node
            apply to its attempts and not to the wait, and a map cannot run such nodes.
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
    ports_from: ClassVar[str | tuple[str, ...] | None] = None
    default_port: ClassVar[str | None] = None
    output_schema: ClassVar[dict[str, Any]] = {}
    example: ClassVar[dict[str, Any]] = {}
    deprecated: ClassVar[str | None] = None
    waits: ClassVar[bool] = False
    has_callback: ClassVar[bool] = False

    def port_paths(self) -> tuple[str, ...]:
        """Return every path in the config that adds named ports."""
        return (self.ports_from,) if isinstance(self.ports_from, str) else self.ports_from or ()

    def ports_of(self, config: ConfigT) -> tuple[str, ...]:
        """Return the named ports of a node with this config, without `error`."""
        return self.ports

    def port_of(self, config: ConfigT, output: JSON) -> str | None:
        """Return the port by which a node leaves if `output` replaces its own output.

        A fork uses it where a user patches the output of a node. A type with named ports overrides
        it if its output determines the port.

        Args:
            config: The config of the node.
            output: The new output, any JSON.

        Returns:
            The named port, or None to leave by the edges that have no port.

        Raises:
            PortUndecided: The output does not determine the port.
        """
        ports = self.ports_of(config)
        if not ports:
            return None
        raise PortUndecided(ports)

    def warnings_of(self, config: ConfigT) -> Iterable[ConfigWarning]:
        """Find what in a valid config will probably not work. Nothing is executed."""
        return ()

    async def execute(self, config: ConfigT, ctx: NodeContext) -> Outcome:
        """Run one attempt of a node.

        A cancel, a timeout or a shutdown cancels the coroutine. After a crash the node runs again
        with the same `ctx.idempotency_key`.

        Args:
            config: The config with its templates unrendered; `ctx.render` renders them.
            ctx: The interface to the run.

        Raises:
            NodeFailure: The node failed with a known code. Any other exception fails it as well.
        """
        raise TypeError(f"node type {self.name!r} has no execute method")
