"""Serialises checkpoints: msgpack of the changes since the parent checkpoint.

Only plain values are stored and never pickled objects, so the bytes can be read by any later
version of the code. Used by the saver, the loader, snapshots and clones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import ormsgpack
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import NODE_RECORDS, NodeRecord, Signal, records_from
from engine.graph.plan import Round
from persistence.events.steps import StoredStep, unpack_steps


@dataclass(slots=True)
class CheckpointDelta:
    """The changes of one checkpoint; all values for a full checkpoint."""

    id: str
    """LangGraph's id of the checkpoint."""
    at: str
    """Time of the checkpoint, as in RFC 3339."""
    values: dict[str, Any]
    """Values of the changed channels."""
    versions: dict[str, int]
    """Versions of the changed channels."""
    seen: dict[str, dict[str, int]]
    """Versions of the channels that each node has seen, for the nodes where they changed."""
    removed: list[str] = field(default_factory=list)
    """Channels that had a value in the parent and have none now."""
    updated: list[str] | None = None
    """Channels that the last superstep updated."""
    metadata: dict[str, Any] = field(default_factory=dict)
    steps: list[StoredStep] = field(default_factory=list)
    """The steps of its stretch, in order. They come before `values`, and are stored apart."""
    v: int = 4
    """Number of LangGraph's checkpoint format."""

    @classmethod
    def between(
        cls,
        parent: Checkpoint | None,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> "CheckpointDelta":
        """Make the changes from `parent` to `checkpoint`; without a parent, a full checkpoint."""
        values = checkpoint["channel_values"]
        # Versions are integers here, because our saver counts them.
        seen = cast(dict[str, dict[str, int]], checkpoint["versions_seen"])
        meta = dict(cast(dict[str, Any], metadata))
        head = (checkpoint["id"], checkpoint["ts"])
        if parent is None:
            versions = cast(dict[str, int], dict(checkpoint["channel_versions"]))
            return cls(
                *head, dict(values), versions, dict(seen), [], checkpoint["updated_channels"], meta, v=checkpoint["v"]
            )
        before = parent["versions_seen"]
        return cls(
            *head,
            {name: values[name] for name in new_versions if name in values},
            cast(dict[str, int], dict(new_versions)),
            {node: versions for node, versions in seen.items() if before.get(node) != versions},
            # A consumed channel still has a version. One that the graph has dropped has neither.
            [name for name in parent["channel_values"] if name not in values],
            checkpoint["updated_channels"],
            meta,
            v=checkpoint["v"],
        )


def pack(delta: CheckpointDelta) -> bytes:
    """Serialise a delta."""
    values = {name: _plain(name, value) for name, value in delta.values.items()}
    return ormsgpack.packb(
        [delta.id, delta.at, values, delta.versions, delta.seen, delta.removed, delta.updated, delta.metadata, delta.v]
    )


def unpack(data: bytes, steps: bytes | None = None) -> CheckpointDelta:
    """Read what `pack` wrote, and the steps that were stored with it."""
    id_, at, values, versions, seen, removed, updated, metadata, v = ormsgpack.unpackb(data)
    if TASKS in values:
        values[TASKS] = [_unpacked_send(packed) for packed in values[TASKS]]
    return CheckpointDelta(id_, at, values, versions, seen, removed, updated, metadata, unpack_steps(steps), v)


def fold(deltas: Sequence[CheckpointDelta]) -> tuple[Checkpoint, CheckpointMetadata]:
    """Make a checkpoint from the last full one and the deltas since, in this order.

    Node records stay lists: their outputs are not in checkpoints, and the caller adds them.
    """
    values: dict[str, Any] = {}
    versions: dict[str, int] = {}
    seen: dict[str, dict[str, int]] = {}
    for delta in deltas:
        for step in delta.steps:
            _apply(values, step.values)
        _apply(values, delta.values)
        for name in delta.removed:
            values.pop(name, None)
        versions.update(delta.versions)
        seen.update(delta.seen)
    last = deltas[-1]
    checkpoint = Checkpoint(
        v=last.v,
        id=last.id,
        ts=last.at,
        channel_values=values,
        channel_versions=cast(ChannelVersions, versions),
        versions_seen=cast(dict[str, ChannelVersions], seen),
        updated_channels=last.updated,
    )
    return checkpoint, cast(CheckpointMetadata, last.metadata)


def apply_step(values: dict[str, Any], step: StoredStep) -> None:
    """Turn the channel values of a checkpoint into those after one step, in place."""
    sends = step.sends(values.pop(TASKS, ()))
    _apply(values, step.values)
    if sends:
        values[TASKS] = sends


def _apply(values: dict[str, Any], changed: Mapping[str, Any]) -> None:
    records = values.get(NODE_RECORDS, {})
    values.update(changed)
    if NODE_RECORDS in values:
        records.update(changed.get(NODE_RECORDS, {}))
        values[NODE_RECORDS] = records


def unpack_write(channel: str, data: bytes) -> Any:
    """Read a pending write, which an older release has stored on top of a head.

    Returns:
        Node records without outputs, a Send, or a settled edge as (index, round, taken).
    """
    value = ormsgpack.unpackb(data)
    if channel == NODE_RECORDS:
        return records_from(value)
    if channel == TASKS:
        return _unpacked_send(value)
    edge, round_, taken = value
    token: tuple[int, Round, bool] = (edge, tuple(round_), taken)
    return token


def _plain(channel: str, value: Any) -> Any:
    if channel == TASKS:
        return [_packed_send(send) for send in value]
    if channel == NODE_RECORDS:
        return {node: _packed_record(record) for node, record in value.items()}
    return value


def _packed_record(record: NodeRecord | list[Any]) -> list[Any]:
    return record if isinstance(record, list) else record.pack()


def _packed_send(send: Send) -> list[Any]:
    signal: Signal = send.arg
    # Older releases read the third value: whether the node runs, or is skipped.
    return [send.node, list(signal.round), True, signal.held, signal.is_entry]


def _unpacked_send(packed: Any) -> Send:
    """Read a Send. Older releases have stored the round of the edge for a node that is not held."""
    node, round_, _, *rest = packed
    held = bool(rest and rest[0])
    is_entry = rest[1] if len(rest) > 1 else not held
    return Send(node, Signal(tuple(round_), held, is_entry))
