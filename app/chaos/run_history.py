"""Run history: all runs with events and node states, read from the database after a chaos run.

The audit compares all other observations with it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from app.chaos import lease_log
from app.chaos.lease_log import ItemKey, LeaseLog
from engine.events import NodeChange, StatusChange
from engine.states import IN_PROGRESS, TERMINAL, TRANSITIONS, NodeStatus, RunStatus
from persistence.events.codec import data_of

EXECUTION_ENDED = (NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.WAITING)
"""Statuses after which a node is not executed again.

A WAITING node has been executed; its wait continues.
"""
_WAIT_ENDED = (NodeStatus.COMPLETED, NodeStatus.FAILED)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """The columns of one event that the audit uses."""

    seq: int
    type: str
    node_id: str | None
    status: str | None
    previous: str | None
    visit: int | None
    attempt: int = 1


@dataclass(slots=True)
class AuditedRun:
    """One run, with the checks that need nothing else.

    Attributes:
        nodes: Status and number of visits, by node id.
        rewinds: (event of the rewind, event of the checkpoint that it returned to).
    """

    id: str
    status: RunStatus
    output: Any
    error: Any
    last_seq: int
    attempt: int
    parent_id: str | None = None
    events: list[AuditEvent] = field(default_factory=list)
    nodes: dict[str, tuple[str, int]] = field(default_factory=dict)
    open_waits: int = 0
    rewinds: list[tuple[int, int]] = field(default_factory=list)
    workflow_id: str | None = None
    inputs: Any = None

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    def has_gaps(self) -> bool:
        """Return whether the `seq` of the events are not exactly 1 to `last_seq`."""
        return [event.seq for event in self.events] != list(range(1, self.last_seq + 1))

    def terminal_events(self) -> int:
        """Return the number of terminal events; a correct run has one."""
        return sum(event.type == "RUN_STATUS" and event.status in TERMINAL for event in self.events)

    def illegal_transitions(self) -> list[str]:
        """Return status changes that are not allowed or that do not follow the previous one."""
        illegal, current = [], None
        for event in (event for event in self.events if event.type == "RUN_STATUS"):
            status = RunStatus(event.status or "")
            if event.previous != current or (current is not None and status not in TRANSITIONS[RunStatus(current)]):
                illegal.append(f"{self.id}: event {event.seq} is {event.previous} → {status}, after {current}")
            current = status
        if current != self.status:
            illegal.append(f"{self.id} is {self.status}, but its last event is {current}")
        return illegal

    def finished_before(self, seq: int) -> dict[tuple[str, int], int]:
        """Return the events of finished nodes before event `seq`, by (node id, visit).

        Nodes whose end was superseded by a rewind are left out, and so are waits whose end was: such
        a node asks again, or starts its child run again.
        """
        ends: dict[tuple[str, int], int] = {}
        for event in self.events:
            is_end = event.type == "NODE_STATE" and event.status in EXECUTION_ENDED
            if event.seq < seq and is_end and self._is_valid(event.seq, seq) and not self._waits_again(event, seq):
                ends[event.node_id or "", event.visit or 0] = event.seq
        return ends

    def _waits_again(self, event: AuditEvent, as_of: int) -> bool:
        """Whether a node was WAITING, and a rewind up to event `as_of` has superseded the end of its wait."""
        if event.status != NodeStatus.WAITING:
            return False
        visit = event.node_id, event.visit
        ends = [one.seq for one in self.events if (one.node_id, one.visit) == visit and one.status in _WAIT_ENDED]
        return any(not self._is_valid(end, as_of) for end in ends if end > event.seq)

    def failed_before(self, seq: int) -> dict[tuple[str, int], int]:
        """Return the last failed attempts before event `seq` of nodes that are tried again.

        They are by (node id, visit). Attempts that were superseded by a rewind are left out.
        """
        failed: dict[tuple[str, int], int] = {}
        for event in self.events:
            is_failure = event.type == "NODE_STATE" and event.status == NodeStatus.RETRYING
            if event.seq < seq and is_failure and self._is_valid(event.seq, seq):
                failed[event.node_id or "", event.visit or 0] = event.attempt
        return failed

    def _is_valid(self, event: int, as_of: int) -> bool:
        """Return whether no rewind up to event `as_of` has superseded `event`."""
        return not any(back_to < event <= rewind <= as_of for rewind, back_to in self.rewinds)

    def repeated_completions(self) -> list[str]:
        """Return visits of nodes that have two valid COMPLETED events."""
        completed: dict[tuple[str, int], int] = {}
        repeated = []
        for event in self.events:
            if event.type == "NODE_STATE" and event.status == NodeStatus.COMPLETED:
                visit = (event.node_id or "", event.visit or 0)
                if (
                    visit in completed
                    and self._is_valid(completed[visit], event.seq)
                    and not self._is_rewind_state(event.seq)
                ):
                    repeated.append(f"{self.id}: {visit} at {completed[visit]} and {event.seq}")
                completed[visit] = event.seq
        return repeated

    def _is_rewind_state(self, seq: int) -> bool:
        """Return whether an event only restores a node state after a rewind.

        A rewind writes the node states of its checkpoint in the events directly before its own
        event.
        """
        changes = {event.seq for event in self.events if event.type == "RUN_STATUS"}
        return any(seq < rewind and not any(seq < one < rewind for one in changes) for rewind, _ in self.rewinds)

    def active_nodes(self) -> list[str]:
        """Return the nodes of an ended run whose status still is RUNNING, RETRYING or WAITING."""
        return [node for node, (status, _) in self.nodes.items() if status in IN_PROGRESS] if self.is_over else []


@dataclass(frozen=True, slots=True)
class ChaosHistory:
    """All runs by id, their leases, and since when items of maps are durable."""

    runs: dict[str, AuditedRun]
    leases: LeaseLog
    items: Mapping[ItemKey, float] = field(default_factory=dict)


async def read(url: str) -> ChaosHistory:
    """Read the history of all runs from the database at `url`."""
    connection = await asyncpg.connect(url)
    try:
        await connection.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=orjson.loads)
        leases = await lease_log.read(connection)
        rows = await connection.fetch(_RUNS)
        runs = {row["id"]: _audited(row) for row in rows}
        await _add_events(connection, runs)
        for row in await connection.fetch("SELECT run_id, node_id, status, visits FROM node_states"):
            runs[row["run_id"]].nodes[row["node_id"]] = (row["status"], row["visits"])
        for row in await connection.fetch(_OPEN_WAITS):
            runs[row["run_id"]].open_waits = row["n"]
        await _add_rewinds(connection, runs, leases)
        return ChaosHistory(runs, leases, await lease_log.read_items(connection))
    finally:
        await connection.close()


def _audited(row: asyncpg.Record) -> AuditedRun:
    source = {"workflow_id": row["workflow_id"], "inputs": row["inputs"]}
    return AuditedRun(row["id"], RunStatus(row["status"]), *row[2:7], **source)


async def _add_events(connection: asyncpg.Connection, runs: dict[str, AuditedRun]) -> None:
    for row in await connection.fetch("SELECT run_id, seq, type, at, node_id, body FROM events ORDER BY run_id, seq"):
        runs[row["run_id"]].events.append(_audit_event(row))


def _audit_event(row: asyncpg.Record) -> AuditEvent:
    place = row["seq"], row["type"], row["node_id"]
    data = data_of(row["type"], row["node_id"], row["body"], row["run_id"], row["seq"], row["at"])
    match data:
        case StatusChange():
            return AuditEvent(*place, data.status, data.previous, None)
        case NodeChange(state):
            return AuditEvent(*place, state.status, None, state.visits, state.attempt or 1)
        case _:
            return AuditEvent(*place, None, None, None)


async def _add_rewinds(connection: asyncpg.Connection, runs: dict[str, AuditedRun], leases: LeaseLog) -> None:
    checkpoints: dict[str, list[tuple[int, int | None]]] = defaultdict(list)
    for row in await connection.fetch("SELECT run_id, seq, superseded_seq FROM checkpoints ORDER BY run_id, seq"):
        checkpoints[row["run_id"]].append((row["seq"], row["superseded_seq"]))
    for run in runs.values():
        run.rewinds = [(seq, _head(checkpoints[run.id], seq)) for seq in leases.rewinds(run.id)]


def _head(checkpoints: Sequence[tuple[int, int | None]], rewind: int) -> int:
    """Return the newest checkpoint directly after a rewind, as the `seq` of its event.

    Args:
        checkpoints: (seq, seq of the rewind that superseded it) of each checkpoint.
        rewind: The event of the rewind.
    """
    valid = (seq for seq, superseded in checkpoints if seq < rewind and (superseded is None or superseded > rewind))
    return max(valid, default=0)


_RUNS = "SELECT id, status, output, error, last_seq, attempt, parent_id, workflow_id, inputs FROM runs ORDER BY id"
_OPEN_WAITS = """
SELECT run_id, count(*) AS n FROM waits WHERE settled_seq IS NULL AND superseded_seq IS NULL GROUP BY run_id
"""
