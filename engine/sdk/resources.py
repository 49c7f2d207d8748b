"""Protocols of the resources that need a database. Nodes get them by name in `ctx.resources`.

The persistence package implements them, so the engine imports no storage library.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.sdk.node import ThreadMessage
from engine.types import JSON


@dataclass(frozen=True, slots=True)
class ChildRun:
    """The request of a node to start a run.

    The same `parent_id` and `key` always mean the same child run, however often it is requested.
    """

    parent_id: str
    key: str
    workflow_id: str
    version: int | None
    """None: the published version, or the draft if none is published."""
    inputs: JSON


class ChildRuns(Protocol):
    """The resource `runs`: starts child runs."""

    async def start(self, child: ChildRun) -> str:
        """Start the run, unless an earlier call started it already.

        Returns:
            The id of the run.

        Raises:
            NodeFailure: The run cannot be started.
        """
        ...


@dataclass(frozen=True, slots=True)
class MapVisit:
    """One visit of a `map` node.

    `epoch` is the fencing token of the worker that executes the run.
    """

    run_id: str
    epoch: int
    lineage: int
    node_id: str
    visit: int


@dataclass(frozen=True, slots=True)
class DoneItem:
    """A finished item of a map.

    `output` is its output as JSON text. For a failed item it is None and `error` is
    `{code, message, retryable, details}`. `digest` is a 64-bit hash of the item's input: a stored result is only used
    while the item at `index` has the same digest.
    """

    index: int
    digest: int
    output: str | None
    error: JSON = None


class MapItems(Protocol):
    """The resource `items`: stores the finished items of maps for a later resume."""

    async def load(self, visit: MapVisit) -> list[DoneItem]:
        """Return the stored items of a visit."""
        ...

    async def save(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        """Store items durably. Waits as long as the database is not available.

        Raises:
            Fenced: Another worker has claimed the run.
        """
        ...


class Threads(Protocol):
    """The resource `threads`: reads the messages of threads. The journal appends them."""

    async def load(self, project_id: str, key: str, max_tokens: int) -> list[ThreadMessage]:
        """Return the last messages that fit a token window, oldest first.

        Waits as long as the database is not available.
        """
        ...


class CallbackAddresses(Protocol):
    """The resource `callbacks`: makes the signed addresses of nodes that wait for an event."""

    def address(self, run_id: str, node_id: str, visit: int) -> str:
        """Return the address to which the event of a visit is posted.

        Raises:
            NodeFailure: With code CALLBACK, if this host has no key to sign it.
        """
        ...


class Secrets(Protocol):
    """The resource `secrets`: decrypts secrets of a project."""

    async def resolve(self, project_id: str, names: Collection[str]) -> dict[str, str]:
        """Return the values by name.

        Raises:
            NodeFailure: With code SECRET, if a secret does not exist or cannot be decrypted.
        """
        ...
