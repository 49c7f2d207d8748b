"""Protocols of the resources that a process passes to nodes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.types import JSON


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A run that a node asks for. The same `key` of the same parent is the same child, however often asked."""

    parent_id: str
    key: str
    workflow_id: str
    version: int | None
    """None: the published one, else the draft."""
    inputs: JSON


class ChildRuns(Protocol):
    """The resource `runs`."""

    async def start(self, child: ChildRun) -> str:
        """The id of the run. Raises NodeFailure."""
        ...


@dataclass(frozen=True, slots=True)
class MapVisit:
    """A visit of a `map` node, under the fencing token of who runs it."""

    run_id: str
    epoch: int
    lineage: int
    node_id: str
    visit: int


@dataclass(frozen=True, slots=True)
class DoneItem:
    """An item of a map that is done: its output as JSON text, or what it failed with: `{code, message}`.

    `digest` is of the item itself, in 64 bits: it tells whether the map still means this one.
    """

    index: int
    digest: int
    output: str | None
    error: JSON = None


class MapItems(Protocol):
    """The resource `items`: what maps have done, so that whoever goes on does the rest."""

    async def load(self, visit: MapVisit) -> list[DoneItem]: ...
    async def keep(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        """Makes them durable; waits for as long as the database is away. Raises Fenced."""
        ...


class Secrets(Protocol):
    """The resource `secrets`."""

    async def resolve(self, project_id: str, names: Collection[str]) -> dict[str, str]:
        """The values. Raises NodeFailure(SECRET) for one that is not there or cannot be decrypted."""
        ...
