"""The audit finds what it looks for: a checker that cannot fail would promise nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from app.chaos.audit import Gathered, findings, judged, recoveries
from app.chaos.execution_log import Record
from app.chaos.faults import Kill
from app.chaos.lease_log import Hold, Holds
from app.chaos.load import Started
from app.chaos.run_history import AuditedRun, ChaosHistory, Told
from app.chaos.subscribers import Kind, View
from app.chaos.workflows import ChaosCase, work
from engine.states import RunStatus

RUN = "run_1"
WORKER, OTHER = 11, 22


def status(seq: int, now: str, before: str | None) -> Told:
    return Told(seq, "RUN_STATUS", None, now, before, None)


def node(seq: int, now: str, visit: int = 1) -> Told:
    return Told(seq, "NODE_STATE", "a", now, None, visit)


def start(at: float, pid: int, visit: int = 1, attempt: int = 1) -> Record:
    return Record(RUN, 0, "a", visit, attempt, pid, at, at + 1)


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


def seen() -> Gathered:
    run = AuditedRun(RUN, RunStatus.COMPLETED, {"a": 1}, None, 8, 2, None, list(EVENTS), {"a": ("COMPLETED", 1)})
    holds = Holds([(RUN, Hold(*one)) for one in ((WORKER, 0, 2, 10.0), (0, 0, 4, 20.0), (OTHER, 0, 5, 21.0))])
    started = Started(RUN, ChaosCase("one", {"nodes": [work("a", 1)], "edges": []}, {"a": 1}))
    events = View(
        RUN, Kind.EVENTS, lambda: None, 8, list(range(1, 9)), status=RunStatus.COMPLETED, ends=1, is_over=True
    )
    states = replace(events, kind=Kind.STATES, nodes={"a": ("COMPLETED", 1)}, seen=list(range(1, 9)))
    records = [start(11, WORKER), start(22, OTHER)]
    return Gathered(ChaosHistory({RUN: run}, holds), {RUN: started}, [events, states], records, (), ())


def broken(what: Gathered) -> set[str]:
    return {finding.promise for finding in findings(what) if finding.evidence}


def test_a_run_that_went_on_after_a_crash_breaks_no_promise() -> None:
    assert broken(seen()) == set()


def _run(what: Gathered) -> AuditedRun:
    return what.history.runs[RUN]


def _event(seq: int, told: Told) -> Callable[[Gathered], None]:
    def change(what: Gathered) -> None:
        _run(what).events[seq - 1] = told

    return change


def _stuck(what: Gathered) -> None:
    _run(what).status = RunStatus.RUNNING


def _lost(what: Gathered) -> None:
    what.history.runs.clear()


def _unknown(what: Gathered) -> None:
    what.started.clear()


def _other_output(what: Gathered) -> None:
    _run(what).output = {"a": 2}


def _failed(what: Gathered) -> None:
    _run(what).status = RunStatus.FAILED


def _missed(what: Gathered) -> None:
    what.views[0].seen.remove(6)


def _never_told_the_end(what: Gathered) -> None:
    what.views[1].is_over = False


def _told_otherwise(what: Gathered) -> None:
    what.views[1].nodes["a"] = ("RUNNING", 1)


def _still_running(what: Gathered) -> None:
    _run(what).nodes["a"] = ("RUNNING", 1)


def _still_waiting(what: Gathered) -> None:
    _run(what).open_waits = 1


def _gone(what: Gathered) -> None:
    del _run(what).events[5]


def _no_execution(what: Gathered) -> None:
    what.records.clear()  # type: ignore[attr-defined]


BREACHES: list[tuple[str, Callable[[Gathered], None]]] = [
    ("stuck", _stuck),
    ("lost", _lost),
    ("accepted twice", _unknown),
    ("ended otherwise than they must", _other_output),
    ("ended otherwise than they must", _failed),
    ("duplicate terminal events", _event(6, status(6, "COMPLETED", "RUNNING"))),
    ("seq gaps or repeats in the database", _gone),
    ("seq gaps or repeats seen by a subscriber", _missed),
    ("seq gaps or repeats seen by a subscriber", _never_told_the_end),
    ("seq gaps or repeats seen by a subscriber", _told_otherwise),
    ("finished nodes run again", _event(3, node(3, "COMPLETED"))),
    ("untrue states", _event(4, status(4, "COMPLETED", "RUNNING"))),
    ("untrue states", _event(6, node(6, "COMPLETED"))),
    ("untrue states", _still_running),
    ("untrue states", _still_waiting),
    ("nodes finished without having run", _no_execution),
]


@pytest.mark.parametrize(("promise", "change"), BREACHES)
def test_a_breach_is_found(promise: str, change: Callable[[Gathered], None]) -> None:
    what = seen()
    change(what)
    assert promise in broken(what)


def test_a_run_that_another_one_has_started_was_accepted_by_nobody_and_still_has_to_end() -> None:
    what = seen()
    what.history.runs["run_2"] = replace(_run(what), id="run_2", parent_id=RUN)
    assert broken(what) == set()
    what.history.runs["run_2"].status = RunStatus.WAITING
    assert "stuck" in broken(what)


def test_a_node_that_starts_twice_in_one_hold_is_found() -> None:
    what = replace(seen(), records=[start(11, WORKER), start(22, OTHER), start(23, OTHER)])
    assert broken(what) == {"nodes started twice in one hold"}


def test_another_attempt_is_no_second_start() -> None:
    what = replace(seen(), records=[start(22, OTHER), start(23, OTHER, attempt=2)])
    assert broken(what) == set()


def test_a_start_without_the_run_is_a_zombies_only_where_the_process_was_frozen() -> None:
    what = replace(seen(), records=[start(22, OTHER), start(23, WORKER)])
    assert broken(what) == {"nodes started without holding the run"}
    woken = judged(replace(what, frozen={WORKER}))
    assert (len(woken.by_zombies), woken.unheld) == (1, [])


def test_what_a_rewind_took_back_may_run_again_and_what_it_kept_may_not() -> None:
    what = seen()
    _run(what).events[2] = node(3, "COMPLETED")
    _run(what).rewinds = [(4, 2)]
    assert judged(what).again == []
    _run(what).rewinds = [(4, 3)]
    assert len(judged(what).again) == 1


def test_a_subscriber_notices_a_repeat_and_an_early_end() -> None:
    view = View(RUN, Kind.EVENTS, lambda: None)
    for seq in (1, 2, 2):
        view.take({"seq": seq})
    view.complete()
    assert [fault[:20] for fault in view.faults] == ["2 came after 2", "the stream ended at "]


def test_recovery_counts_from_the_kill_to_the_first_start_elsewhere() -> None:
    what = replace(seen(), kills=[Kill(20.5, WORKER, [RUN]), Kill(30.0, OTHER, [RUN]), Kill(20.5, WORKER, [])])
    assert recoveries(what) == ([1.5], [1.5])
