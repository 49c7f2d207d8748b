"""Checkpoints as bytes: msgpack of what changed since the parent. Only plain values are stored, never pickled objects."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import ormsgpack
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import NODE_RECORDS, EdgeToken, NodeRecord, Signal, records_from


@dataclass(slots=True)
class CheckpointDelta:
    """What one checkpoint changed: channel values, their versions, and the versions that nodes have seen."""

    id: str
    at: str
    values: dict[str, Any]
    versions: dict[str, int]
    seen: dict[str, dict[str, int]]
    gone: list[str] = field(default_factory=list)
    """Channels that had a value before and have none now."""
    updated: list[str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    v: int = 4
    """LangGraph's own number for the format of a checkpoint."""

    @classmethod
    def between(
        cls,
        parent: Checkpoint | None,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> "CheckpointDelta":
        values = checkpoint["channel_values"]
        # Versions are whole numbers here: our saver counts them.
        seen = cast(dict[str, dict[str, int]], checkpoint["versions_seen"])
        meta = dict(cast(dict[str, Any], metadata))
        facts = (checkpoint["id"], checkpoint["ts"])
        if parent is None:
            versions = cast(dict[str, int], dict(checkpoint["channel_versions"]))
            return cls(
                *facts, dict(values), versions, dict(seen), [], checkpoint["updated_channels"], meta, checkpoint["v"]
            )
        before = parent["versions_seen"]
        return cls(
            *facts,
            {name: values[name] for name in new_versions if name in values},
            cast(dict[str, int], dict(new_versions)),
            {node: versions for node, versions in seen.items() if before.get(node) != versions},
            # A consumed channel has a version still; one that the graph has dropped has neither.
            [name for name in parent["channel_values"] if name not in values],
            checkpoint["updated_channels"],
            meta,
            checkpoint["v"],
        )


def pack(delta: CheckpointDelta) -> bytes:
    values = {name: _plain(name, value) for name, value in delta.values.items()}
    return ormsgpack.packb(
        [delta.id, delta.at, values, delta.versions, delta.seen, delta.gone, delta.updated, delta.metadata, delta.v]
    )


def unpack(data: bytes) -> CheckpointDelta:
    id_, at, values, versions, seen, gone, updated, metadata, v = ormsgpack.unpackb(data)
    return CheckpointDelta(id_, at, values, versions, seen, gone, updated, metadata, v)


def fold(deltas: Sequence[CheckpointDelta]) -> tuple[Checkpoint, CheckpointMetadata]:
    """A whole checkpoint from the last full one and the changes since. Slots stay plain: their outputs are elsewhere."""
    values: dict[str, Any] = {}
    versions: dict[str, int] = {}
    seen: dict[str, dict[str, int]] = {}
    for delta in deltas:
        if (changed := delta.values.pop(NODE_RECORDS, None)) is not None:
            values[NODE_RECORDS] = {**values.get(NODE_RECORDS, {}), **changed}
        values.update(delta.values)
        for name in delta.gone:
            values.pop(name, None)
        versions.update(delta.versions)
        seen.update(delta.seen)
    last = deltas[-1]
    if TASKS in values:
        values[TASKS] = [_send(packed) for packed in values[TASKS]]
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


def pack_write(channel: str, value: Any) -> bytes:
    return ormsgpack.packb(_plain_write(channel, value))


def unpack_write(channel: str, data: bytes) -> Any:
    value = ormsgpack.unpackb(data)
    if channel == NODE_RECORDS:
        return records_from(value)
    if channel == TASKS:
        return _send(value)
    edge, round_, taken = value
    return EdgeToken(edge, tuple(round_), taken)


def _plain_write(channel: str, value: Any) -> Any:
    if channel == TASKS:
        return _packed_send(value)
    if channel == NODE_RECORDS:
        return _plain(channel, value)
    return [value.edge, list(value.round), value.taken]


def _plain(channel: str, value: Any) -> Any:
    if channel == TASKS:
        return [_packed_send(send) for send in value]
    if channel == NODE_RECORDS:
        return {node: _packed_slot(slot) for node, slot in value.items()}
    return value


def _packed_slot(slot: NodeRecord | list[Any]) -> list[Any]:
    return slot if isinstance(slot, list) else [slot.status.value, slot.visits, list(slot.round)]


def _packed_send(send: Send) -> list[Any]:
    return [send.node, list(send.arg.round), send.arg.live, send.arg.held]


def _send(packed: Any) -> Send:
    node, round_, live, *held = packed
    return Send(node, Signal(tuple(round_), live, *held))
