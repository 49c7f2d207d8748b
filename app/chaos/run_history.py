"""Every run as the database tells it in the end: what the audit compares all else with."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from app.chaos import lease_log as holds
from app.chaos.lease_log import Holds
from engine.states import TERMINAL, TRANSITIONS, NodeStatus, RunStatus

FINISHED = (NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.WAITING)
"""A node that waits has been executed: its wait is what goes on."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event."""

    seq: int
    type: str
    node_id: str | None
    status: str | None
    previous: str | None
    visit: int | None


@dataclass(slots=True)
class AuditedRun:
    id: str
    status: RunStatus
    output: Any
    error: Any
    last_seq: int
    attempt: int
    parent_id: str | None = None
    events: list[Told] = field(default_factory=list)
    nodes: dict[str, tuple[str, int]] = field(default_factory=dict)
    open_waits: int = 0
    rewinds: list[tuple[int, int]] = field(default_factory=list)
    """(event of the rewind, event of the checkpoint that it went back to)."""

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    def has_gaps(self) -> bool:
        return [told.seq for told in self.events] != list(range(1, self.last_seq + 1))

    def ends(self) -> int:
        """Terminal events; one, where all is well."""
        return sum(told.type == "RUN_STATUS" and told.status in TERMINAL for told in self.events)

    def illegal_moves(self) -> list[str]:
        """Status changes that the state machine does not have, or that do not follow on the one before."""
        moves = [told for told in self.events if told.type == "RUN_STATUS"]
        wrong, stands = [], None
        for move in moves:
            status = RunStatus(move.status or "")
            if move.previous != stands or (stands is not None and status not in TRANSITIONS[RunStatus(stands)]):
                wrong.append(f"{self.id}: event {move.seq} says {move.previous} → {status}, after {stands}")
            stands = status
        return wrong if stands == self.status else [*wrong, f"{self.id} is {self.status}; its last event says {stands}"]

    def finished_before(self, seq: int) -> dict[tuple[str, int], int]:
        """By node and visit: the event of its end, as of event `seq`. What a rewind took back is no end any more."""
        ends: dict[tuple[str, int], int] = {}
        for told in self.events:
            if told.seq < seq and told.type == "NODE_STATE" and told.status in FINISHED and self._stands(told.seq, seq):
                ends[told.node_id or "", told.visit or 0] = told.seq
        return ends

    def _stands(self, event: int, as_of: int) -> bool:
        return not any(back_to < event <= rewind <= as_of for rewind, back_to in self.rewinds)

    def doubled_ends(self) -> list[str]:
        """Visits of nodes that were said to be COMPLETED twice."""
        seen: dict[tuple[str, int], int] = {}
        doubled = []
        for told in self.events:
            if told.type == "NODE_STATE" and told.status == NodeStatus.COMPLETED:
                visit = (told.node_id or "", told.visit or 0)
                if visit in seen and self._stands(seen[visit], told.seq) and not self._is_told_by_rewind(told.seq):
                    doubled.append(f"{self.id}: {visit} at {seen[visit]} and {told.seq}")
                seen[visit] = told.seq
        return doubled

    def _is_told_by_rewind(self, seq: int) -> bool:
        """A rewind says again how nodes stood at its checkpoint, in the events right before its own."""
        own = {told.seq for told in self.events if told.type == "RUN_STATUS"}
        return any(seq < rewind and not any(seq < one < rewind for one in own) for rewind, _ in self.rewinds)

    def unsettled(self) -> list[str]:
        """Nodes that a run which is over shows as if they went on."""
        going_on = (NodeStatus.RUNNING, NodeStatus.RETRYING, NodeStatus.WAITING)
        return [node for node, (status, _) in self.nodes.items() if status in going_on] if self.is_over else []


@dataclass(frozen=True, slots=True)
class ChaosHistory:
    runs: dict[str, AuditedRun]
    holds: Holds


async def read(url: str) -> ChaosHistory:
    connection = await asyncpg.connect(url)
    try:
        await connection.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=orjson.loads)
        held = await holds.read(connection)
        rows = await connection.fetch(_RUNS)
        runs = {row["id"]: AuditedRun(row["id"], RunStatus(row["status"]), *row[2:7]) for row in rows}
        await _add_events(connection, runs)
        for row in await connection.fetch("SELECT run_id, node_id, status, visits FROM node_states"):
            runs[row["run_id"]].nodes[row["node_id"]] = (row["status"], row["visits"])
        for row in await connection.fetch(_OPEN_WAITS):
            runs[row["run_id"]].open_waits = row["n"]
        await _add_rewinds(connection, runs, held)
        return ChaosHistory(runs, held)
    finally:
        await connection.close()


async def _add_events(connection: asyncpg.Connection, runs: dict[str, AuditedRun]) -> None:
    for row in await connection.fetch("SELECT run_id, seq, type, node_id, body FROM events ORDER BY run_id, seq"):
        body = row["body"]
        told = Told(
            row["seq"], row["type"], row["node_id"], body.get("status"), body.get("previous"), body.get("visits")
        )
        runs[row["run_id"]].events.append(told)


async def _add_rewinds(connection: asyncpg.Connection, runs: dict[str, AuditedRun], held: Holds) -> None:
    checkpoints: dict[str, list[tuple[int, int | None]]] = defaultdict(list)
    for row in await connection.fetch("SELECT run_id, seq, superseded_seq FROM checkpoints ORDER BY run_id, seq"):
        checkpoints[row["run_id"]].append((row["seq"], row["superseded_seq"]))
    for run in runs.values():
        run.rewinds = [(seq, _head(checkpoints[run.id], seq)) for seq in held.rewinds(run.id)]


def _head(checkpoints: Sequence[tuple[int, int | None]], rewind: int) -> int:
    """The checkpoint that was the newest one right after the rewind."""
    return max((seq for seq, taken in checkpoints if seq < rewind and (taken is None or taken > rewind)), default=0)


_RUNS = "SELECT id, status, output, error, last_seq, attempt, parent_id FROM runs ORDER BY id"
_OPEN_WAITS = """
SELECT run_id, count(*) AS n FROM waits WHERE settled_seq IS NULL AND superseded_seq IS NULL GROUP BY run_id
"""
