"""The open waits of a run: when each one ends and with what, and what the next commit stores of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from engine.events import RunError
from engine.metrics import REGISTRY
from engine.runtime import waits as waits_module
from engine.runtime.ports import OpenWait
from engine.runtime.waits import Waits
from engine.sdk.node import ANSWERED, EXPIRED, Output, WaitForAnswer, WaitForRun, WaitUntil
from engine.states import WaitKind

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC)
PAST, FUTURE = NOW - HOUR, NOW + HOUR


def wait(kind: WaitKind, until: datetime | None = None, **rest: Any) -> OpenWait:
    return OpenWait(f"wait_{kind}", f"node {kind}", 1, kind, NOW, until, **rest)


def holding(*waits: OpenWait) -> Waits:
    held = Waits()
    held.restore(waits)
    return held


def child_end(status: str, **rest: Any) -> dict[str, Any]:
    return {
        "answer": {"status": status, "output": 7, "error": None, **rest},
        "is_answered": True,
        "child_run_id": "run_1",
    }


FAULT = {"message": "it broke", "retryable": True}
FINAL = {"message": "it broke", "retryable": False}
ENDS: dict[str, tuple[OpenWait, Output | RunError | None]] = {
    "a timer before its time": (wait(WaitKind.TIMER, FUTURE, outcome=Output(1)), None),
    "a timer after its time": (wait(WaitKind.TIMER, PAST, outcome=Output(1)), Output(1)),
    "a question without an answer": (wait(WaitKind.INPUT), None),
    "a question that has expired": (wait(WaitKind.INPUT, PAST, outcome=Output(None, EXPIRED)), Output(None, EXPIRED)),
    "a question with an answer": (wait(WaitKind.INPUT, answer=3, is_answered=True), Output(3, ANSWERED)),
    "an answer that came in time": (
        wait(WaitKind.INPUT, PAST, answer=3, is_answered=True, outcome=Output(None, EXPIRED)),
        Output(3, ANSWERED),
    ),
    "a backoff after its time": (wait(WaitKind.RETRY, PAST), None),
    "a child run that runs": (wait(WaitKind.RUN, PAST, child_run_id="run_1", outcome=Output(1)), None),
    "a child run that completed": (wait(WaitKind.RUN, **child_end("COMPLETED")), Output(7)),
    "a child run that was cancelled": (
        wait(WaitKind.RUN, **child_end("CANCELLED")),
        RunError(
            "SUBWORKFLOW",
            "run run_1 is CANCELLED",
            "node RUN",
            False,
            {"runId": "run_1", "status": "CANCELLED", "error": None},
        ),
    ),
    "a child run that failed": (
        wait(WaitKind.RUN, **child_end("FAILED", error=FAULT)),
        RunError(
            "SUBWORKFLOW",
            "run run_1 is FAILED: it broke",
            "node RUN",
            True,
            {"runId": "run_1", "status": "FAILED", "error": FAULT},
        ),
    ),
    "a child run that failed for good": (
        wait(WaitKind.RUN, **child_end("FAILED", error=FINAL)),
        RunError(
            "SUBWORKFLOW",
            "run run_1 is FAILED: it broke",
            "node RUN",
            False,
            {"runId": "run_1", "status": "FAILED", "error": FINAL},
        ),
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_wait_ends_with_its_result_once(name: str) -> None:
    one, result = ENDS[name]
    waits = holding(one)
    assert list(waits.take_ended()) == ([] if result is None else [(one, result)])
    assert list(waits.take_ended()) == []
    assert len(waits) == (1 if result is None else 0)
    assert waits.take_changes() == ([], [] if result is None else [one.id])


def test_a_wait_that_began_by_a_clock_ahead_lasts_no_time() -> None:
    seconds = partial(REGISTRY.get_sample_value, "treadle_run_waiting_seconds_sum", {"kind": "TIMER"})
    waits = holding(replace(wait(WaitKind.TIMER, PAST, outcome=Output(1)), since=FUTURE))
    before = seconds() or 0.0
    assert len(list(waits.take_ended())) == 1
    assert seconds() == before


def test_only_a_backoff_whose_time_has_come_begins_the_next_attempt() -> None:
    due, later = wait(WaitKind.RETRY, PAST), replace(wait(WaitKind.RETRY, FUTURE), id="wait_later")
    waits = holding(wait(WaitKind.TIMER, PAST), due, later, wait(WaitKind.INPUT, PAST))
    assert list(waits.take_ended_backoffs()) == [due]
    assert list(waits.take_ended_backoffs()) == []
    assert waits.take_changes() == ([], [due.id])
    assert waits.next_retry == FUTURE
    assert holding(wait(WaitKind.TIMER, PAST)).next_retry is None


KINDS: dict[str, tuple[OpenWait, str]] = {
    "a timer": (wait(WaitKind.TIMER, FUTURE), "quiet"),
    "a timer that has ended": (wait(WaitKind.TIMER, PAST, outcome=Output(1)), ""),
    "a question": (wait(WaitKind.INPUT), "quiet"),
    "a question with an answer": (wait(WaitKind.INPUT, answer=1, is_answered=True), ""),
    "a child run": (wait(WaitKind.RUN, child_run_id="run_1"), "busy"),
    "a child run that has ended": (wait(WaitKind.RUN, **child_end("COMPLETED")), ""),
    "a backoff": (wait(WaitKind.RETRY, FUTURE), "busy"),
    "a backoff whose time has come": (wait(WaitKind.RETRY, PAST), ""),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_wait_is_quiet_or_has_effects_outside_until_it_ends(name: str) -> None:
    one, kind = KINDS[name]
    waits = holding(one)
    assert waits.quiet == ([one.node_id] if kind == "quiet" else [])
    assert waits.busy == ([one.node_id] if kind == "busy" else [])


@pytest.mark.parametrize("kind", [WaitKind.TIMER, WaitKind.RETRY])
def test_a_wait_has_ended_at_the_very_time_at_which_it_ends(kind: WaitKind, monkeypatch: pytest.MonkeyPatch) -> None:
    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Now":
            return cls.fromtimestamp(NOW.timestamp(), tz)

    monkeypatch.setattr(waits_module, "datetime", Now)
    waits = holding(wait(kind, NOW, outcome=Output(1)))
    assert (waits.quiet, waits.busy) == ([], [])
    assert len([*waits.take_ended(), *waits.take_ended_backoffs()]) == 1


def test_a_wait_that_ends_hides_no_wait_behind_it() -> None:
    ended, open_ = wait(WaitKind.TIMER, PAST, outcome=Output(1)), wait(WaitKind.INPUT)
    assert holding(ended, open_).quiet == [open_.node_id]
    assert [one for one, _ in holding(wait(WaitKind.RUN), ended).take_ended()] == [ended]


DUE: dict[str, tuple[list[OpenWait], datetime | None]] = {
    "no waits": ([], None),
    "a question without a limit": ([wait(WaitKind.INPUT)], None),
    "the earliest of several": ([wait(WaitKind.TIMER, FUTURE), wait(WaitKind.RETRY, FUTURE - HOUR)], NOW),
    "an answer at once": ([wait(WaitKind.TIMER, FUTURE), wait(WaitKind.INPUT, is_answered=True)], NOW),
}


@pytest.mark.parametrize("name", DUE)
def test_a_run_is_due_when_its_first_wait_ends(name: str) -> None:
    waits, due = DUE[name]
    assert holding(*waits).next_due == due


def test_each_kind_of_wait_is_opened_with_what_it_waits_for() -> None:
    waits = Waits()
    timer = waits.open("a", 1, WaitUntil(FUTURE, Output("late")), {"in": 1})
    child = waits.open("b", 2, WaitForRun("run_1"), {"in": 2})
    question = waits.open("c", 3, WaitForAnswer("Well?", {"type": "string"}, FUTURE), {"in": 3})
    before = datetime.now(UTC)
    backoff = waits.open_backoff("d", 4, 60)
    after = datetime.now(UTC)
    opened = [timer, child, question, backoff]
    assert timer == OpenWait(timer.id, "a", 1, WaitKind.TIMER, timer.since, FUTURE, Output("late"), {"in": 1})
    assert child == OpenWait(child.id, "b", 2, WaitKind.RUN, child.since, None, None, {"in": 2}, child_run_id="run_1")
    assert question == OpenWait(
        question.id,
        "c",
        3,
        WaitKind.INPUT,
        question.since,
        FUTURE,
        Output(None, EXPIRED),
        "Well?",
        {"type": "string"},
    )
    assert backoff == OpenWait(backoff.id, "d", 4, WaitKind.RETRY, backoff.since, backoff.until)
    assert backoff.until is not None
    assert before + timedelta(seconds=60) <= backoff.until <= after + timedelta(seconds=60)
    assert len({one.id for one in opened}) == 4
    assert all(one.id.startswith("wait_") for one in opened)
    assert waits.take_changes() == (opened, [])
    assert waits.take_changes() == ([], [])
    assert (waits.node_ids, waits.child_run_ids) == (["a", "b", "c", "d"], ["run_1"])
    assert len(waits) == 4


def test_an_answer_to_a_wait_that_is_settled_changes_nothing() -> None:
    question = wait(WaitKind.INPUT)
    answered = replace(question, answer=1, is_answered=True)
    waits = holding(question)
    assert waits.cancel("another node") is None
    assert waits.cancel(question.node_id) == question
    waits.add_answers([answered])
    assert (len(waits), list(waits.take_ended()), waits.take_changes()) == (0, [], ([], [question.id]))
    waits = holding(question)
    waits.add_answers([replace(answered, id="wait_settled"), answered])
    assert list(waits.take_ended()) == [(answered, Output(1, ANSWERED))]


def test_a_cancel_settles_the_wait_of_its_node_only() -> None:
    first, second, third = (wait(kind) for kind in (WaitKind.INPUT, WaitKind.RUN, WaitKind.TIMER))
    for order in ((first, second, third), (third, second, first)):
        waits = holding(*order)
        assert waits.cancel("node unknown") is None
        assert waits.cancel(second.node_id) is second
        assert sorted(waits.node_ids) == [first.node_id, third.node_id]
        assert waits.take_changes() == ([], [second.id])


def test_the_waits_of_a_run_that_ends_are_settled() -> None:
    waits = holding(wait(WaitKind.INPUT), wait(WaitKind.TIMER, FUTURE))
    waits.abandon()
    assert (len(waits), waits.take_changes()) == (0, ([], ["wait_INPUT", "wait_TIMER"]))


def test_waits_are_described_for_people() -> None:
    at = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    waits = holding(
        wait(WaitKind.INPUT),
        wait(WaitKind.RUN, child_run_id="run_1"),
        wait(WaitKind.TIMER, at),
        wait(WaitKind.RETRY, at),
    )
    assert waits.describe() == (
        "'node INPUT' waits for an answer; 'node RUN' waits for run run_1; "
        "'node TIMER' waits until 2026-05-04 03:02:01 UTC; 'node RETRY' tries again at 2026-05-04 03:02:01 UTC"
    )
