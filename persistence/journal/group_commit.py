"""Makes a group of journal entries durable: the choice of the statement, and its arguments.

One statement is one transaction and one round trip (group commit); see
`persistence.journal.group_statement`. `PostgresJournal` is the only caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import orjson

from engine.events import NodeChange, NodeState
from engine.runtime.ports import Entry, OpenWait
from engine.states import RunStatus, WaitKind
from engine.types import JSON
from engine.values.storable import clean_text
from engine.values.tokens import estimate_tokens
from persistence.db.ids import Prefix, new_id
from persistence.events.codec import (
    EncodedEvent,
    encode,
    error_body,
    is_stored,
    node_state_values,
)
from persistence.events.run_transition import RunEnd
from persistence.journal.group_statement import (
    CHECKPOINTS,
    EVENTS,
    GROUP,
    GROUP_WITH_MESSAGES,
    GROUP_WITH_WAITS,
    MESSAGES,
    OPENED_WAITS,
    OUTPUTS,
    RUNS,
    SETTLED_WAITS,
    STATES,
)

EVENT_BYTES = 100
"""Bytes of the row of an event, and of its places in the indexes, beside its body."""


@dataclass(slots=True)
class Batch:
    """All entries of one run in one group.

    Only the last one may carry a status change, which may be refused.
    """

    run_id: str
    entries: list[Entry] = field(default_factory=list)
    weight: int = 0
    encoded: list[EncodedEvent] = field(default_factory=list)
    """The events of all entries, in order. `statement` encodes them."""


@dataclass(frozen=True, slots=True)
class WrittenRun:
    """A run that a group has written."""

    base: int
    """The number before its first event of the group."""
    project_id: str
    end: RunEnd | None
    """How the run has ended, if the group has ended it."""

    @classmethod
    def of(cls, row: Any, base: int) -> "WrittenRun":
        """Read a row with the columns `project_id` and `ended`."""
        return cls(base, row["project_id"], None if row["ended"] is None else RunEnd(**row["ended"]))


class _Arrays:
    """The rows of one table as the arrays that `unnest` takes, one a column."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.arrays: list[list[Any]] = [[] for _ in columns]

    def add(self, *row: Any) -> None:
        for array, value in zip(self.arrays, row, strict=True):
            array.append(value)


def statement(batches: Sequence[Batch], mark: int, idle_limit_s: float | None) -> tuple[str, list[Any]]:
    """Build the statement that commits a group.

    Args:
        batches: The group, one batch a run.
        mark: A number that no other group has; it is stored with the runs that the statement wrote.
        idle_limit_s: How long a run may be PAUSED or WAITING before its deadline, in seconds; None
            for no deadline.

    Returns:
        The SQL and its arguments. Its rows are (id, base, project_id, ended) of the runs that were
        written; the events of a run have the numbers `base + 1`, `base + 2` and so on.
    """
    plain = _arguments(batches, mark, idle_limit_s)
    entries = [entry for batch in batches for entry in batch.entries]
    if any(entry.messages for entry in entries):
        return GROUP_WITH_MESSAGES, [*plain, *_wait_arguments(batches), *_message_arguments(batches)]
    if not any(entry.opened_waits or entry.settled_wait_ids for entry in entries):
        return GROUP, plain
    return GROUP_WITH_WAITS, [*plain, *_wait_arguments(batches)]


def _message_arguments(batches: Sequence[Batch]) -> list[list[Any]]:
    rows, place = _Arrays(MESSAGES), 0
    for batch in batches:
        last_event = 0
        for entry in batch.entries:
            last_event += len(entry.events_to_write)
            for key, node_id, visit, message in entry.messages:
                place += 1
                tokens = estimate_tokens([message.content])
                thread_id = new_id(Prefix.THREAD)
                row = (thread_id, key, place, last_event, node_id, visit, message.role, message.content, tokens)
                rows.add(batch.run_id, *row)
    return rows.arrays


def _wait_arguments(batches: Sequence[Batch]) -> list[list[Any]]:
    opened, settled = _Arrays(OPENED_WAITS), _Arrays(SETTLED_WAITS)
    for batch in batches:
        places = list(accumulate(len(entry.events_to_write) for entry in batch.entries))
        ends = {
            wait_id: place
            for entry, place in zip(batch.entries, places, strict=True)
            for wait_id in entry.settled_wait_ids
        }
        for entry, place in zip(batch.entries, places, strict=True):
            for wait in entry.opened_waits:
                # The UPDATE that settles waits does not see rows that the same statement inserts.
                _add_wait(opened, entry, wait, place, ends.pop(wait.id, None))
        for wait_id, place in ends.items():
            settled.add(batch.run_id, wait_id, place)
    return [*opened.arrays, *settled.arrays]


def _add_wait(opened: _Arrays, entry: Entry, wait: OpenWait, place: int, settled: int | None) -> None:
    outcome = wait.outcome
    opened.add(
        entry.run_id,
        wait.id,
        wait.node_id,
        wait.visit,
        entry.lineage,
        place,
        wait.kind.value,
        wait.since,
        wait.until,
        None if outcome is None else _json({"value": outcome.value, "port": outcome.port}),
        _json(wait.prompt),
        None if wait.schema is None else _json(wait.schema),
        wait.child_run_id,
        None if wait.answerers is None else _json(wait.answerers.to_json()),
        wait.event_name,
        wait.event_key,
        wait.kind is WaitKind.EVENT,
        settled,
    )


def _arguments(batches: Sequence[Batch], mark: int, idle_limit_s: float | None) -> list[Any]:
    runs, events, states, outputs = _Arrays(RUNS), _Arrays(EVENTS), _Arrays(STATES), _Arrays(OUTPUTS)
    checkpoints = _Arrays(CHECKPOINTS)
    for batch in batches:
        latest: dict[str, tuple[int, NodeState, int | None]] = {}
        place = size = 0
        batch.encoded.clear()
        for entry in batch.entries:
            for at, data in entry.events_to_write:
                place += 1
                event = encode(at, data)
                batch.encoded.append(event)
                size += EVENT_BYTES + len(event.body)
                events.add(batch.run_id, place, data.type.value, at, data.node_id, event.body.decode())
                if isinstance(data, NodeChange):
                    size += _add_state(outputs, latest, entry, place, data.state, event)
            size += _add_checkpoint(checkpoints, entry, place)
            size += sum(len(appended.message.content.encode()) for appended in entry.messages)
        for state_place, state, output_place in latest.values():
            states.add(state.run_id, state.node_id, state_place, output_place, *node_state_values(state, _json))
        _add_run(runs, batch, place, size)
    tables = (events, states, outputs, checkpoints)
    return [*runs.arrays, mark, idle_limit_s, *(array for table in tables for array in table.arrays)]


def _add_run(runs: _Arrays, batch: Batch, count: int, size: int) -> None:
    last = batch.entries[-1]
    progress = next((entry.progress for entry in reversed(batch.entries) if entry.progress is not None), None)
    change = last.change
    failure = next((entry.failure for entry in reversed(batch.entries) if entry.failure is not None), None)
    failure = change.error if change is not None else failure
    error = _json(error_body(failure)) if failure is not None else None
    if change is None:
        runs.add(batch.run_id, last.epoch, count, size, progress, None, None, None, None, error, None)
        return
    output = _json(change.output) if change.status is RunStatus.COMPLETED else None
    runs.add(
        batch.run_id,
        last.epoch,
        count,
        size + len(output or ""),
        progress,
        change.expected.value,
        change.status.value,
        None if change.message is None else clean_text(change.message),
        output,
        error,
        change.wake_at,
    )


def _add_state(
    outputs: _Arrays,
    latest: dict[str, tuple[int, NodeState, int | None]],
    entry: Entry,
    place: int,
    state: NodeState,
    event: EncodedEvent,
) -> int:
    """Remember the node's latest state of the group, and add a row for its stored values.

    Return the bytes of these values.
    """
    before = latest.get(state.node_id)
    output_place = before[2] if before else None
    if is_stored(state):
        output_place = place
        input = None if event.input is None else event.input.decode()
        output = None if event.output is None else event.output.decode()
        outputs.add(entry.run_id, place, state.node_id, state.visits, entry.lineage, input, output)
    latest[state.node_id] = (place, state, output_place)
    return len(event.input or b"") + len(event.output or b"") if output_place == place else 0


def _add_checkpoint(checkpoints: _Arrays, entry: Entry, place: int) -> int:
    """Add the row of a checkpoint, if the entry has one. Return its bytes."""
    record = entry.checkpoint
    if record is None:
        return 0
    # Its event is the last one of the entry, or the one before the run's status change.
    place -= entry.change is not None
    checkpoints.add(
        entry.run_id,
        place,
        record.id,
        record.parent_id,
        record.step,
        entry.lineage,
        record.is_full,
        record.data,
        _json(record.next_nodes),
        record.steps,
    )
    return len(record.data) + len(record.steps or b"")


def _json(value: JSON) -> str:
    return orjson.dumps(value).decode()
