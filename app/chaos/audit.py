"""Audit of a chaos run: checks guarantees against the database, the subscribers and the executions.

The functions are pure: they receive all observations and return the violations of each guarantee,
with evidence.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from app.chaos.events.sources import SentEvents
from app.chaos.execution_log import Execution
from app.chaos.faults import Kill
from app.chaos.lease_log import LeaseChange
from app.chaos.load import StartedRun
from app.chaos.run_history import AuditedRun, ChaosHistory
from app.chaos.subscribers import SubscriptionKind, View
from engine.states import NodeStatus

RECORDING_PREFIX = "chaos_"
"""Node types with this prefix record their executions."""
QUICK = "chaos_transform"


@dataclass(frozen=True, slots=True)
class Finding:
    """One guarantee and the evidence against it. It held if there is no evidence."""

    guarantee: str
    evidence: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything that the suite has recorded.

    Attributes:
        started: The accepted runs, by run id.
        frozen: Pids of workers that were stopped for longer than their lease.
        unresponsive: Processes that did not stop in time after a SIGTERM.
        duplicate_runs: Idempotency keys for which two callers got different runs.
        refused: Calls that the server refused.
        unanswered: Calls that never got a response.
        sent: The events of triggers, and the messages that the endpoint has accepted.
    """

    history: ChaosHistory
    started: dict[str, StartedRun]
    views: Sequence[View]
    executions: Sequence[Execution]
    frozen: Collection[int]
    kills: Sequence[Kill]
    unresponsive: Sequence[str] = ()
    duplicate_runs: int = 0
    refused: Sequence[str] = ()
    unanswered: int = 0
    sent: SentEvents = field(default_factory=SentEvents)


@dataclass(slots=True)
class InvalidExecutions:
    """Executions that should not have happened, each as a line of text.

    Attributes:
        repeated: A node, an attempt or an item of a map started again, although its end or its
            failure was durable before the lease began.
        duplicate: A node attempt started twice under one lease.
        by_zombies: Started without the lease, by a process that had been frozen past its lease.
        without_lease: Started without the lease by any other process, which could have known that
            it had lost the run. Quick nodes are not counted.
    """

    repeated: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    by_zombies: list[str] = field(default_factory=list)
    without_lease: list[str] = field(default_factory=list)


def check_guarantees(observations: Observations) -> list[Finding]:
    """Check every guarantee, and return one finding for each."""
    runs, invalid = observations.history.runs, invalid_executions(observations)
    return [
        Finding("runs that did not end", [f"{run.id} is {run.status}" for run in runs.values() if not run.is_over]),
        Finding("accepted runs that are lost", [run_id for run_id in observations.started if run_id not in runs]),
        Finding("runs accepted twice", _duplicate_runs(observations)),
        Finding("runs with a wrong result", list(_wrong_results(observations))),
        Finding("duplicate terminal events", [run.id for run in runs.values() if run.terminal_events() > 1]),
        Finding("seq gaps or repeats in the database", [run.id for run in runs.values() if run.has_gaps()]),
        Finding("seq gaps or repeats seen by a subscriber", list(_subscription_errors(observations))),
        Finding("finished nodes, attempts or items executed again", invalid.repeated),
        Finding("nodes started twice under one lease", invalid.duplicate),
        Finding("nodes started without a lease", invalid.without_lease),
        Finding("invalid states", list(_invalid_states(runs.values()))),
        Finding("nodes finished without an execution", list(_missing_executions(observations))),
        Finding("processes that ignored SIGTERM", observations.unresponsive),
        Finding("calls refused or never answered", [*observations.refused, *["no response"] * observations.unanswered]),
    ]


def _duplicate_runs(observations: Observations) -> list[str]:
    """Return keys with two runs, and runs that no client knows.

    A run that no client knows is a violation only if every call was answered.
    """
    unknown = [
        run.id
        for run in observations.history.runs.values()
        if run.id not in observations.started and run.parent_id is None
    ]
    return ["two runs for one idempotency key"] * observations.duplicate_runs + (
        unknown if not observations.unanswered else []
    )


def _wrong_results(observations: Observations) -> Iterator[str]:
    for run_id, started in observations.started.items():
        run = observations.history.runs.get(run_id)
        if run is not None and run.is_over and not started.case.accepts(run.status, run.output):
            yield f"{run_id} ({started.case.name}): {run.status} {run.output!r} {run.error!r}"


def _subscription_errors(observations: Observations) -> Iterator[str]:
    for view in observations.views:
        run = observations.history.runs.get(view.run_id)
        if run is None or not run.is_over:
            continue
        for error in [*view.errors, *_differences(view, run)]:
            yield f"{run.id} {view.kind}: {error}"


def _differences(view: View, run: AuditedRun) -> Iterator[str]:
    """Compare what a subscriber has received with the events in the database."""
    types: tuple[str, ...] = ("NODE_STATE", "RUN_STATUS")
    if view.kind is SubscriptionKind.EVENTS:
        types = (*types, "CHECKPOINT", "LOG")
    expected = [event.seq for event in run.events if event.seq > view.base and event.type in types]
    if not view.over.is_set():
        yield f"has not ended; received up to {view.after} of {run.last_seq}"
    elif view.received != expected:
        missing = sorted(set(expected) - set(view.received))
        yield f"missed {missing[:5]}; received {len(view.received)} of {len(expected)}"
    elif view.kind is SubscriptionKind.STATES and (
        different := {node: state for node, state in run.nodes.items() if view.nodes.get(node) != state}
    ):
        yield f"shows node states that differ from the database: {different}"
    if view.terminal_events > 1:
        yield f"ended {view.terminal_events} times"


def invalid_executions(observations: Observations) -> InvalidExecutions:
    """Find executions that violate a guarantee: compare each one with the leases of its run."""
    invalid = InvalidExecutions()
    starts: set[tuple[str, str, int, str, int, float]] = set()
    for one in observations.executions:
        run, lease = (
            observations.history.runs.get(one.run_id),
            observations.history.leases.at(one.run_id, one.started_at),
        )
        place = "/".join(filter(None, [one.run_id, str(one.lineage), one.node_id, str(one.visit), one.item]))
        text = f"{place} attempt {one.attempt} by {one.pid}"
        if run is None:
            continue
        if lease is None or lease.pid != one.pid:
            if one.pid in observations.frozen:
                invalid.by_zombies.append(text)
            elif not is_quick(observations, one):
                invalid.without_lease.append(text)
            continue
        if reason := _is_repeated(observations.history, run, one, lease):
            invalid.repeated.append(f"{text}: {reason}, lease since event {lease.seq}")
        start = (one.run_id, one.node_id, one.visit, one.item, one.attempt, lease.at)
        if start in starts:
            invalid.duplicate.append(f"{text}: lease since event {lease.seq}")
        starts.add(start)
    return invalid


def _is_repeated(history: ChaosHistory, run: AuditedRun, one: Execution, lease: LeaseChange) -> str:
    """Return why an execution should not have started; an empty text if it was right."""
    end = run.finished_before(lease.seq).get((one.node_id, one.visit))
    if end is not None:
        return f"ended at event {end}"
    if one.index is None:
        failed = run.failed_before(lease.seq).get((one.node_id, one.visit), 0)
        return f"attempt {failed} had failed" if one.attempt <= failed else ""
    durable_at = history.items.get((one.run_id, one.lineage, one.node_id, one.visit, one.index))
    return "the item was durable" if durable_at is not None and durable_at < lease.at else ""


def is_quick(observations: Observations, execution: Execution) -> bool:
    """Return whether a node is quick.

    Quick nodes are pure, and the graph may execute them ahead of the journal, so also before it
    learns that it has lost the run.
    """
    started = observations.started.get(execution.run_id)
    types = {node["id"]: node["type"] for node in started.case.spec["nodes"]} if started else {}
    return types.get(execution.node_id) == QUICK


def _invalid_states(runs: Collection[AuditedRun]) -> Iterator[str]:
    for run in runs:
        yield from run.illegal_transitions()
        yield from run.repeated_completions()
        yield from (f"{run.id} is {run.status}, but its node {node} is active" for node in run.active_nodes())
        if run.is_over and run.open_waits:
            yield f"{run.id} is {run.status}, but has {run.open_waits} open waits"


def _missing_executions(observations: Observations) -> Iterator[str]:
    """Yield completed nodes without a recorded execution.

    It is the opposite check, and detects errors of the execution log rather than of runs.
    """
    executed = {(one.run_id, one.node_id, one.visit) for one in observations.executions}
    for run_id, started in observations.started.items():
        recording = {node["id"] for node in started.case.spec["nodes"] if node["type"].startswith(RECORDING_PREFIX)}
        run = observations.history.runs.get(run_id)
        for event in run.events if run else ():
            visit = (run_id, event.node_id or "", event.visit or 0)
            if event.status == NodeStatus.COMPLETED and event.node_id in recording and visit not in executed:
                yield f"{run_id}: {event.node_id} at event {event.seq}"


def recovery_times(observations: Observations) -> tuple[list[float], list[float]]:
    """Return the sorted recovery times after each SIGKILL, in seconds.

    The recovery time is the time until a node of an interrupted run starts in another process.

    Returns: The times for the first interrupted run of each kill, and the times for every
        interrupted run.
    """
    first, each = [], []
    for kill in observations.kills:
        starts = (_next_start(observations.executions, kill, run_id) for run_id in kill.run_ids)
        times = [at - kill.at for at in starts if at is not None]
        each += times
        first += [min(times)] if times else []
    return sorted(first), sorted(each)


def _next_start(executions: Sequence[Execution], kill: Kill, run_id: str) -> float | None:
    starts = (one.started_at for one in executions if one.run_id == run_id and one.pid != kill.pid)
    return min((at for at in starts if at > kill.at), default=None)
