"""The head checkpoint of a run: the nodes that it makes due, and the writes on top of it.

Both checkpoint savers use this module, so that a run in memory and a stored run behave alike.
Nothing here is durable: a saver stores the writes, or the run ends with the process.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import Checkpoint
from langgraph.constants import TASKS

from engine.graph.channels import JOIN_BARRIER, LOOP, Write

TaskWrite = tuple[str, str, Any]
"""A pending write as LangGraph stores it: task id, name of the channel, value."""


def due_nodes(values: Mapping[str, Any], updated_channels: Iterable[str] | None) -> list[str]:
    """Return the nodes of the next superstep.

    Args:
        values: The channel values of a checkpoint.
        updated_channels: The channels that may have opened with this checkpoint, as LangGraph
            lists them.

    Returns:
        The targets of the pending Sends, then the nodes whose barrier has opened. Empty if no
        superstep follows.
    """
    sends = [send.node for send in values.get(TASKS, ())]
    opened = [name for name in updated_channels or () if name.startswith((JOIN_BARRIER, LOOP))]
    return [*sends, *(name.split(":", 1)[1] for name in opened)]


def next_nodes(checkpoint: Checkpoint) -> list[str]:
    """Return the nodes that a checkpoint of LangGraph makes due."""
    return due_nodes(checkpoint["channel_values"], checkpoint["updated_channels"])


class HeadWrites:
    """The writes on top of one head checkpoint.

    The next checkpoint contains them, and begins with none.
    """

    def __init__(self, stored: Iterable[TaskWrite] = ()) -> None:
        self.writes: list[TaskWrite] = list(stored)
        self._has_sends = any(channel == TASKS for _, channel, _ in self.writes)

    def replace(self, task_id: str, writes: Iterable[Write]) -> None:
        """Keep the writes of a task for the next invocation. They replace its earlier writes."""
        self.writes = [write for write in self.writes if write[0] != task_id]
        self.writes += [(task_id, channel, value) for channel, value in writes]

    def enter(self, values: Mapping[str, Any], writes: Sequence[Write]) -> list[Write]:
        """Return the writes that enter the graph for these outside writes.

        A write to the channel of Sends replaces what the channel holds. So the first Send on top of
        a checkpoint is preceded by all Sends that the checkpoint still has to run. Without them,
        nodes that are due would never run.

        Args:
            values: The channel values of the checkpoint.
            writes: The outside writes.
        """
        if self._has_sends or all(channel != TASKS for channel, _ in writes):
            return list(writes)
        self._has_sends = True
        return [*((TASKS, send) for send in values.get(TASKS, ())), *writes]
