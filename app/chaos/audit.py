"""The audit: what was promised against what the database, the subscribers and the records of executions say.

Pure: it is given what was gathered, and answers with findings, each with its evidence.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from app.chaos.execution_log import Record
from app.chaos.faults import Kill
from app.chaos.load import Started
from app.chaos.run_history import AuditedRun, ChaosHistory
from app.chaos.subscribers import Kind, View
from engine.states import NodeStatus

OWN = "chaos_"
QUICK = "chaos_transform"


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise. It is kept if there is no evidence against it."""

    promise: str
    evidence: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that the suite has seen."""

    history: ChaosHistory
    started: dict[str, Started]
    views: Sequence[View]
    records: Sequence[Record]
    frozen: Collection[int]
    kills: Sequence[Kill]
    deaf: Sequence[str] = ()
    told_apart: int = 0
    refused: Sequence[str] = ()
    unanswered: int = 0


@dataclass(slots=True)
class Executions:
    """What the records say about executions that should not have been."""

    again: list[str] = field(default_factory=list)
    """A node whose end was durable before the hold in which it was started again."""
    twice: list[str] = field(default_factory=list)
    """Started twice in one hold."""
    by_zombies: list[str] = field(default_factory=list)
    """Started by a process that had been frozen past its lease, for a run that was no longer its own."""
    unheld: list[str] = field(default_factory=list)
    """The same, by a process that was not frozen: it knew, or could have known. Nodes that ask the world alone."""


def findings(seen: Gathered) -> list[Finding]:
    runs, executions = seen.history.runs, judged(seen)
    return [
        Finding("stuck", [f"{run.id} is {run.status}" for run in runs.values() if not run.is_over]),
        Finding("lost", [run_id for run_id in seen.started if run_id not in runs]),
        Finding("accepted twice", _doubled(seen)),
        Finding("ended otherwise than they must", list(_wrong(seen))),
        Finding("duplicate terminal events", [run.id for run in runs.values() if run.ends() > 1]),
        Finding("seq gaps or repeats in the database", [run.id for run in runs.values() if run.has_gaps()]),
        Finding("seq gaps or repeats seen by a subscriber", list(_misled(seen))),
        Finding("finished nodes run again", executions.again),
        Finding("nodes started twice in one hold", executions.twice),
        Finding("nodes started without holding the run", executions.unheld),
        Finding("untrue states", list(_untrue(runs.values()))),
        Finding("nodes finished without having run", list(_unseen(seen))),
        Finding("processes that did not stop when asked", seen.deaf),
        Finding("calls refused or never answered", [*seen.refused, *["no answer"] * seen.unanswered]),
    ]


def _doubled(seen: Gathered) -> list[str]:
    """Runs that nobody was told of, where every call was answered; and keys with two runs."""
    unknown = [run.id for run in seen.history.runs.values() if run.id not in seen.started and run.parent_id is None]
    return ["two runs for one key"] * seen.told_apart + (unknown if not seen.unanswered else [])


def _wrong(seen: Gathered) -> Iterator[str]:
    for run_id, started in seen.started.items():
        run = seen.history.runs.get(run_id)
        if run is not None and run.is_over and not started.case.is_met(run.status, run.output):
            yield f"{run_id} ({started.case.name}): {run.status} {run.output!r} {run.error!r}"


def _misled(seen: Gathered) -> Iterator[str]:
    for view in seen.views:
        run = seen.history.runs.get(view.run_id)
        if run is None or not run.is_over:
            continue
        for fault in [*view.faults, *_compared(view, run)]:
            yield f"{run.id} {view.kind}: {fault}"


def _compared(view: View, run: AuditedRun) -> Iterator[str]:
    types = (
        ("NODE_STATE", "RUN_STATUS") if view.kind is Kind.STATES else ("NODE_STATE", "RUN_STATUS", "CHECKPOINT", "LOG")
    )
    due = [told.seq for told in run.events if told.seq > view.base and told.type in types]
    if not view.is_over:
        yield f"has not ended; it stands at {view.after} of {run.last_seq}"
    elif view.seen != due:
        missing = sorted(set(due) - set(view.seen))
        yield f"missed {missing[:5]}, of {len(due)} it saw {len(view.seen)}"
    elif view.kind is Kind.STATES and (wrong := {n: s for n, s in run.nodes.items() if view.nodes.get(n) != s}):
        yield f"shows other nodes than there are: {wrong}"
    if view.ends > 1:
        yield f"ended {view.ends} times"


def judged(seen: Gathered) -> Executions:
    found = Executions()
    starts: set[tuple[str, str, int, int, float]] = set()
    for record in seen.records:
        run, hold = seen.history.runs.get(record.run_id), seen.history.holds.at(record.run_id, record.started_at)
        told = (
            f"{record.run_id}/{record.lineage}/{record.node_id}/{record.visit} attempt {record.attempt} by {record.pid}"
        )
        if run is None:
            continue
        if hold is None or hold.pid != record.pid:
            if record.pid in seen.frozen:
                found.by_zombies.append(told)
            elif not is_quick(seen, record):
                found.unheld.append(told)
            continue
        end = run.finished_before(hold.seq).get((record.node_id, record.visit))
        if end is not None:
            found.again.append(f"{told}: ended at event {end}, held since event {hold.seq}")
        start = (record.run_id, record.node_id, record.visit, record.attempt, hold.at)
        if start in starts:
            found.twice.append(f"{told}: held since event {hold.seq}")
        starts.add(start)
    return found


def is_quick(seen: Gathered, record: Record) -> bool:
    """Quick nodes are pure, and the graph may be ahead of the journal with them: before it learns that it lost the run."""
    started = seen.started.get(record.run_id)
    types = {node["id"]: node["type"] for node in started.case.spec["nodes"]} if started else {}
    return types.get(record.node_id) == QUICK


def _untrue(runs: Collection[AuditedRun]) -> Iterator[str]:
    for run in runs:
        yield from run.illegal_moves()
        yield from run.doubled_ends()
        yield from (f"{run.id} is {run.status}, and its node {node} goes on" for node in run.unsettled())
        if run.is_over and run.open_waits:
            yield f"{run.id} is {run.status}, and waits for {run.open_waits} things"


def _unseen(seen: Gathered) -> Iterator[str]:
    """The other way round: an output must come from an execution. It checks the records more than the runs."""
    executed = {(record.run_id, record.node_id, record.visit) for record in seen.records}
    for run_id, started in seen.started.items():
        own = {node["id"] for node in started.case.spec["nodes"] if node["type"].startswith(OWN)}
        run = seen.history.runs.get(run_id)
        for told in run.events if run else ():
            visit = (run_id, told.node_id or "", told.visit or 0)
            if told.status == NodeStatus.COMPLETED and told.node_id in own and visit not in executed:
                yield f"{run_id}: {told.node_id} at event {told.seq}"


def recoveries(seen: Gathered) -> tuple[list[float], list[float]]:
    """Seconds from each SIGKILL to the first new start of a node: in any of the runs it cut off, and in each of them."""
    first, each = [], []
    for kill in seen.kills:
        after = {run_id: _next_start(seen.records, kill, run_id) for run_id in kill.run_ids}
        found = [at - kill.at for at in after.values() if at is not None]
        each += found
        first += [min(found)] if found else []
    return sorted(first), sorted(each)


def _next_start(records: Sequence[Record], kill: Kill, run_id: str) -> float | None:
    starts = (one.started_at for one in records if one.run_id == run_id and one.pid != kill.pid)
    return min((at for at in starts if at > kill.at), default=None)
