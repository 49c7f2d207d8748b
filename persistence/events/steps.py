"""The steps of stored checkpoints, and the ids of the checkpoints that are derived from them.

A stretch of inline nodes is committed with one checkpoint row. Its steps say what each visit has
changed, so that there is a checkpoint between any two visits (engine/runtime/stretches.py). The last two
characters of a checkpoint's id are the number of its step in base 32: `zz` for the stored one. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ormsgpack
from langgraph.types import Send

from engine.graph.channels import NODE_RECORDS, Signal
from engine.graph.plan import Round
from engine.runtime.ports import CheckpointStep
from engine.states import NodeStatus

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""The digits of a TypeID: Crockford's base 32."""
_STORED = _DIGITS[-1] * 2
_STARTED = frozenset({NodeStatus.RUNNING, NodeStatus.RETRYING})
"""The statuses of tasks that go on after the checkpoint."""


class StoredStep(NamedTuple):
    """One step of a stored checkpoint.

    `back` is the number of events from the end of the step to the event of the checkpoint. `values`
    are the changed node records (packed), joins and loops by stored name.
    """

    back: int
    values: dict[str, Any]
    due: list[tuple[str, Round]]

    def sends(self, before: Iterable[Send]) -> list[Send]:
        """Return the Sends after the step, from those before it."""
        changed = self.values.get(NODE_RECORDS, {})
        return [
            *(send for send in before if send.node not in changed),
            *(Send(node_id, Signal(round_)) for node_id, round_ in self.due),
        ]

    def next_nodes(self, before: Sequence[str]) -> list[str]:
        """Return the nodes that are due or running after the step, from those before it."""
        changed: Mapping[str, Any] = self.values.get(NODE_RECORDS, {})
        started = [id_ for id_, (status, *_) in changed.items() if status in _STARTED]
        staying = [id_ for id_ in before if id_ not in changed]
        return [*staying, *started, *(node_id for node_id, _ in self.due)]


def pack_steps(steps: Sequence[CheckpointStep], event_count: int) -> bytes | None:
    """Serialise the steps of a checkpoint, whose event follows after `event_count` others."""
    if not steps:
        return None
    return ormsgpack.packb([[event_count + 1 - step.event_count, step.values, step.due] for step in steps])


def unpack_steps(data: bytes | None) -> list[StoredStep]:
    """Read what `pack_steps` wrote."""
    if data is None:
        return []
    return [
        StoredStep(back, values, [(node_id, tuple(round_)) for node_id, round_ in due])
        for back, values, due in ormsgpack.unpackb(data)
    ]


def derived_ids(id_: str, count: int) -> Iterator[str]:
    """Yield the ids of the `count` checkpoints that are derived from the checkpoint `id_`."""
    for index in range(count):
        yield id_[:-2] + _DIGITS[index >> 5] + _DIGITS[index & 31]


def stored_id(id_: str) -> str:
    """Return the id of the checkpoint with whose steps the checkpoint `id_` is stored.

    A checkpoint of an older release is stored under its own id only.
    """
    return id_[:-2] + _STORED


def with_stored_ids(ids: Iterable[str]) -> list[str]:
    """Return the ids, and the stored ids of derived ones among them."""
    return list(dict.fromkeys(each for id_ in ids for each in (id_, stored_id(id_))))
