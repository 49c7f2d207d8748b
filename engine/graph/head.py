"""The head checkpoint of a run as LangGraph sees it: the Sends of the nodes that are due.

Both checkpoint savers use this module, so that a run in memory and a stored run behave alike.
Nothing here is durable.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.constants import TASKS
from langgraph.types import Send

TaskWrite = tuple[str, str, Any]
"""A pending write as LangGraph stores it: task id, name of the channel, value."""


def next_nodes(checkpoint: Checkpoint) -> list[str]:
    """Return the nodes that a checkpoint makes due, in their order."""
    return [send.node for send in checkpoint["channel_values"].get(TASKS, ())]


def with_sends(checkpoint: Checkpoint, sends: Sequence[Send]) -> Checkpoint:
    """Return the same checkpoint with more nodes due."""
    values = dict(checkpoint["channel_values"])
    values[TASKS] = [*values.get(TASKS, ()), *sends]
    return Checkpoint(**{**checkpoint, "channel_values": values})


def head_checkpoint(step: int, sends: Sequence[Send], parent: Checkpoint | None = None) -> Checkpoint:
    """Make the next checkpoint of a run outside of a superstep.

    Args:
        step: The step of the checkpoint.
        sends: The nodes that are due.
        parent: The checkpoint that it follows.
    """
    versions: Mapping[str, Any] = {} if parent is None else parent["channel_versions"]
    version = max([0, *(int(each) for each in versions.values())]) + 1
    return Checkpoint(
        v=4,
        id=str(uuid6(clock_seq=step)),
        ts=datetime.now(UTC).isoformat(),
        channel_values={TASKS: list(sends)} if sends else {},
        channel_versions={**versions, TASKS: version},
        versions_seen={} if parent is None else parent["versions_seen"],
        updated_channels=None,
    )
