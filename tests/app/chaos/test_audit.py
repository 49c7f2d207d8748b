"""The audit detects each kind of violation, and reports none for a correct run."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.chaos import execution_log
from app.chaos.audit import Finding, Observations, check_guarantees, invalid_executions, recovery_times
from app.chaos.events.audit import check_events, started_by_triggers
from app.chaos.events.sources import SentEvents
from app.chaos.execution_log import Execution
from app.chaos.faults import Kill
from app.chaos.lease_log import LeaseChange, LeaseLog
from app.chaos.load import StartedRun
from app.chaos.run_history import AuditedRun, AuditEvent, ChaosHistory
from app.chaos.subscribers import SubscriptionKind, View
from app.chaos.workflows import ChaosCase, work
from engine.states import RunStatus

RUN = "run_1"
WORKER, OTHER = 11, 22


def status(seq: int, now: str, before: str | None) -> AuditEvent:
    return AuditEvent(seq, "RUN_STATUS", None, now, before, None)


def node(seq: int, now: str, visit: int = 1) -> AuditEvent:
    return AuditEvent(seq, "NODE_STATE", "a", now, None, visit)


def start(at: float, pid: int, visit: int = 1, attempt: int = 1) -> Execution:
    return Execution(RUN, 0, "a", visit, attempt, pid, at, at + 1)


EVENTS = [
    status(1, "QUEUED", None),
    status(2, "RUNNING", "QUEUED"),
    node(3, "RUNNING"),
    status(4, "QUEUED", "RUNNING"),
    status(5, "RUNNING", "QUEUED"),
    node(6, "RUNNING"),
    node(7, "COMPLETED"),
    status(8, "COMPLETED", "RUNNING"),
]
"""A run that lost its worker in the middle of its one node."""


def correct_observations() -> Observations:
    run = AuditedRun(RUN, RunStatus.COMPLETED, {"a": 1}, None, 8, 2, None, list(EVENTS), {"a": ("COMPLETED", 1)})
    changes = ((WORKER, 0, 2, 10.0), (0, 0, 4, 20.0), (OTHER, 0, 5, 21.0))
    leases = LeaseLog([(RUN, LeaseChange(*one)) for one in changes])
    started = StartedRun(RUN, ChaosCase("one", {"nodes": [work("a", 1)], "edges": []}, {"a": 1}))
    events = View(
        RUN,
        SubscriptionKind.EVENTS,
        lambda: None,
        8,
        list(range(1, 9)),
        status=RunStatus.COMPLETED,
        terminal_events=1,
    )
    events.over.set()
    states = replace(events, kind=SubscriptionKind.STATES, nodes={"a": ("COMPLETED", 1)}, received=list(range(1, 9)))
    executions = [start(11, WORKER), start(22, OTHER)]
    return Observations(ChaosHistory({RUN: run}, leases), {RUN: started}, [events, states], executions, (), ())


def violations(observations: Observations) -> set[str]:
    """Return the violated guarantees."""
    return {finding.guarantee for finding in check_guarantees(observations) if finding.evidence}


def test_a_run_that_continued_after_a_crash_violates_no_guarantee() -> None:
    assert violations(correct_observations()) == set()


def _run(observations: Observations) -> AuditedRun:
    return observations.history.runs[RUN]


def _event(seq: int, event: AuditEvent) -> Callable[[Observations], None]:
    """Return a function that replaces an event."""

    def change(observations: Observations) -> None:
        _run(observations).events[seq - 1] = event

    return change


def _run_without_end(observations: Observations) -> None:
    _run(observations).status = RunStatus.RUNNING


def _lost_run(observations: Observations) -> None:
    observations.history.runs.clear()


def _unknown_run(observations: Observations) -> None:
    observations.started.clear()


def _wrong_output(observations: Observations) -> None:
    _run(observations).output = {"a": 2}


def _failed_run(observations: Observations) -> None:
    _run(observations).status = RunStatus.FAILED


def _subscription_with_gap(observations: Observations) -> None:
    observations.views[0].received.remove(6)


def _subscription_without_end(observations: Observations) -> None:
    observations.views[1].over = asyncio.Event()


def _subscription_with_other_state(observations: Observations) -> None:
    observations.views[1].nodes["a"] = ("RUNNING", 1)


def _active_node_after_end(observations: Observations) -> None:
    _run(observations).nodes["a"] = ("RUNNING", 1)


def _open_wait_after_end(observations: Observations) -> None:
    _run(observations).open_waits = 1


def _missing_event(observations: Observations) -> None:
    del _run(observations).events[5]


def _no_execution(observations: Observations) -> None:
    observations.executions.clear()  # type: ignore[attr-defined]


REPEATED = "finished nodes, attempts or items executed again"
VIOLATIONS: list[tuple[str, Callable[[Observations], None]]] = [
    ("runs that did not end", _run_without_end),
    ("accepted runs that are lost", _lost_run),
    ("runs accepted twice", _unknown_run),
    ("runs with a wrong result", _wrong_output),
    ("runs with a wrong result", _failed_run),
    ("duplicate terminal events", _event(6, status(6, "COMPLETED", "RUNNING"))),
    ("seq gaps or repeats in the database", _missing_event),
    ("seq gaps or repeats seen by a subscriber", _subscription_with_gap),
    ("seq gaps or repeats seen by a subscriber", _subscription_without_end),
    ("seq gaps or repeats seen by a subscriber", _subscription_with_other_state),
    (REPEATED, _event(3, node(3, "COMPLETED"))),
    (REPEATED, _event(3, node(3, "RETRYING"))),
    ("invalid states", _event(4, status(4, "COMPLETED", "RUNNING"))),
    ("invalid states", _event(6, node(6, "COMPLETED"))),
    ("invalid states", _active_node_after_end),
    ("invalid states", _open_wait_after_end),
    ("nodes finished without an execution", _no_execution),
]


@pytest.mark.parametrize(("guarantee", "change"), VIOLATIONS)
def test_each_violation_is_detected(guarantee: str, change: Callable[[Observations], None]) -> None:
    observations = correct_observations()
    change(observations)
    assert guarantee in violations(observations)


def test_a_child_run_needs_no_accepting_client_but_must_end() -> None:
    observations = correct_observations()
    observations.history.runs["run_2"] = replace(_run(observations), id="run_2", parent_id=RUN)
    assert violations(observations) == set()
    observations.history.runs["run_2"].status = RunStatus.WAITING
    assert "runs that did not end" in violations(observations)


def test_a_node_that_starts_twice_under_one_lease_is_detected() -> None:
    observations = replace(correct_observations(), executions=[start(11, WORKER), start(22, OTHER), start(23, OTHER)])
    assert violations(observations) == {"nodes started twice under one lease"}


def test_a_further_attempt_is_no_second_start() -> None:
    observations = replace(correct_observations(), executions=[start(22, OTHER), start(23, OTHER, attempt=2)])
    assert violations(observations) == set()


def test_a_start_without_a_lease_is_excused_only_for_a_frozen_process() -> None:
    observations = replace(correct_observations(), executions=[start(22, OTHER), start(23, WORKER)])
    assert violations(observations) == {"nodes started without a lease"}
    invalid = invalid_executions(replace(observations, frozen={WORKER}))
    assert (len(invalid.by_zombies), invalid.without_lease) == (1, [])


def test_a_node_may_be_executed_again_only_if_a_rewind_superseded_its_end() -> None:
    observations = correct_observations()
    _run(observations).events[2] = node(3, "COMPLETED")
    _run(observations).rewinds = [(4, 2)]
    assert invalid_executions(observations).repeated == []
    _run(observations).rewinds = [(4, 3)]
    assert len(invalid_executions(observations).repeated) == 1


def test_a_wait_may_begin_again_only_if_a_rewind_superseded_its_end() -> None:
    observations = correct_observations()
    _run(observations).events[1:4] = [node(2, "WAITING"), node(3, "COMPLETED"), status(4, "QUEUED", "QUEUED")]
    _run(observations).rewinds = [(4, 2)]
    assert invalid_executions(observations).repeated == []
    _run(observations).events[2] = node(3, "WAITING")
    assert len(invalid_executions(observations).repeated) == 1


def test_the_next_attempt_after_a_crash_repeats_nothing() -> None:
    observations = replace(correct_observations(), executions=[start(11, WORKER), start(22, OTHER, attempt=2)])
    _run(observations).events[2] = node(3, "RETRYING")
    assert violations(observations) == set()


@pytest.mark.parametrize(("durable_at", "count"), [(19.0, 1), (21.5, 0)], ids=["before the lease", "under the lease"])
def test_a_durable_item_of_a_map_may_not_be_executed_again(durable_at: float, count: int) -> None:
    observations = correct_observations()
    items = {(RUN, 0, "a", 1, 5): durable_at}
    executions = [replace(start(22, OTHER), item=item) for item in ("4", "5", "5/x/1")]
    history = replace(observations.history, items=items)
    invalid = invalid_executions(replace(observations, history=history, executions=executions))
    assert len(invalid.repeated) == 2 * count
    assert invalid.duplicate == []


def test_an_execution_in_an_item_of_a_map_is_recorded_with_its_place(tmp_path: Path) -> None:
    keys = ["run_1/0/a/1/2", "run_1/0/m/1/7/1", "run_1/0/m/1/7/x/3/1"]
    lines = [json.dumps(["start", key, 1.0]) for key in keys]
    (tmp_path / "11-1.jsonl").write_text("\n".join(lines))
    executions = execution_log.read(tmp_path)
    assert [(one.node_id, one.visit, one.attempt, one.item, one.index) for one in executions] == [
        ("a", 1, 2, "", None),
        ("m", 1, 1, "7", 7),
        ("m", 1, 1, "7/x/3", 7),
    ]


def test_a_subscriber_detects_a_repeat_and_an_early_end() -> None:
    view = View(RUN, SubscriptionKind.EVENTS, lambda: None)
    for seq in (1, 2, 2):
        view.receive({"seq": seq})
    view.complete()
    assert [error[:20] for error in view.errors] == ["2 came after 2", "the stream ended at "]


def test_the_recovery_time_ends_with_the_first_start_in_another_process() -> None:
    observations = replace(
        correct_observations(), kills=[Kill(20.5, WORKER, [RUN]), Kill(30.0, OTHER, [RUN]), Kill(20.5, WORKER, [])]
    )
    assert recovery_times(observations) == ([1.5], [1.5])


def correct_events() -> tuple[SentEvents, dict[str, AuditedRun]]:
    """Return one event of a webhook, its run, and the message about its end."""
    run = replace(_run(correct_observations()), workflow_id="wf_1", inputs={"key": "m-1"})
    sent = SentEvents({"wf_1": "webhook"}, {"wf_1": {"m-1"}}, {"dlv_1": (RUN, "run.completed")})
    return sent, {RUN: run}


def _lost_event(sent: SentEvents, runs: dict[str, AuditedRun]) -> None:
    sent.keys["wf_1"].add("m-2")


def _second_run(sent: SentEvents, runs: dict[str, AuditedRun]) -> None:
    runs["run_2"] = replace(runs[RUN], id="run_2")


def _unknown_event(sent: SentEvents, runs: dict[str, AuditedRun]) -> None:
    runs["run_2"] = replace(runs[RUN], id="run_2", inputs={"key": "m-3"})


def _lost_message(sent: SentEvents, runs: dict[str, AuditedRun]) -> None:
    sent.messages.clear()


def _second_message(sent: SentEvents, runs: dict[str, AuditedRun]) -> None:
    sent.messages["dlv_2"] = sent.messages["dlv_1"]


def _forged_message(sent: SentEvents, runs: dict[str, AuditedRun]) -> None:
    sent.invalid.append("dlv_3: INVALID")


EVENT_VIOLATIONS: list[tuple[str, Callable[[SentEvents, dict[str, AuditedRun]], None]]] = [
    ("events without a run", _lost_event),
    ("events with two runs", _second_run),
    ("events with two runs", _unknown_event),
    ("changes of runs without a message", _lost_message),
    ("changes of runs with two messages", _second_message),
    ("messages with an invalid signature", _forged_message),
]


def _violated(findings: list[Finding]) -> set[str]:
    return {finding.guarantee for finding in findings if finding.evidence}


@pytest.mark.parametrize(("guarantee", "change"), EVENT_VIOLATIONS)
def test_each_violation_by_events_and_messages_is_detected(
    guarantee: str, change: Callable[[SentEvents, dict[str, AuditedRun]], None]
) -> None:
    sent, runs = correct_events()
    assert _violated(check_events(sent, runs)) == set()
    change(sent, runs)
    assert guarantee in _violated(check_events(sent, runs))


def test_the_output_of_a_run_of_a_trigger_must_have_the_key_of_its_event() -> None:
    sent, runs = correct_events()
    [started] = started_by_triggers(sent, runs.values()).values()
    assert started.case.accepts("COMPLETED", {"z": "m-1"})
    assert not started.case.accepts("COMPLETED", {"z": "m-2"})
