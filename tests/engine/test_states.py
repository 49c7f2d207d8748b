"""The transitions in docs/state_machine.md are exactly the transitions in the code."""

import re

import pytest

from engine.states import EXECUTED, LEASED, TRANSITIONS, NodeStatus, RunStatus, check_transition, progress_of, sql_list
from tests.paths import ROOT

DOCUMENT = ROOT / "docs" / "state_machine.md"
ARROW = re.compile(r"^ {4}([A-Z]+) --> ([A-Z]+)", re.MULTILINE)
ROW = re.compile(r"^\| ([A-Z, ()_]*[A-Z]) \| ([A-Z, ()_]+)[^|]*\| [^|]+\| [^|]+\| (`.+`) \|$", re.MULTILINE)


def statuses(text: str) -> list[RunStatus]:
    return [RunStatus(name) for name in re.sub(r"\(.*?\)", "", text).replace(",", " ").split()]


def allowed() -> set[tuple[RunStatus, RunStatus]]:
    return {(before, after) for before, afters in TRANSITIONS.items() for after in afters}


def test_the_diagram_has_every_allowed_transition_and_no_other() -> None:
    arrows = {(RunStatus(before), RunStatus(after)) for before, after in ARROW.findall(DOCUMENT.read_text("utf-8"))}
    assert arrows == allowed()


def test_the_table_names_the_code_for_every_transition() -> None:
    rows = {
        (before, after)
        for befores, afters, _ in ROW.findall(DOCUMENT.read_text("utf-8"))
        for before in statuses(befores)
        for after in statuses(afters)
    }
    assert rows == allowed()


def test_every_file_and_function_in_the_table_exists() -> None:
    for _, _, places in ROW.findall(DOCUMENT.read_text("utf-8")):
        for path, function in re.findall(r"`([a-z/_.]+)(?:: (\w+))?`", places):
            text = (ROOT / path).read_text("utf-8")
            assert not function or f"def {function}(" in text, (path, function)


def test_a_transition_that_is_not_allowed_raises_an_error() -> None:
    for before in RunStatus:
        for after in RunStatus:
            if (before, after) in allowed():
                check_transition(before, after)
            else:
                with pytest.raises(ValueError, match=f"that is {before} cannot become {after}"):
                    check_transition(before, after)


def test_no_transition_starts_at_a_terminal_status() -> None:
    assert {status for status, afters in TRANSITIONS.items() if not afters} == {
        status for status in RunStatus if status.is_terminal
    }
    assert set(TRANSITIONS) == set(RunStatus)


@pytest.mark.parametrize(
    ("statuses", "total", "progress"),
    [
        ([], 4, 0.0),
        ([NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.RUNNING], 4, 0.5),
        ([NodeStatus.COMPLETED, NodeStatus.SKIPPED, NodeStatus.SKIPPED], 3, 1.0),
        ([NodeStatus.CANCELLED, NodeStatus.WAITING, NodeStatus.IDLE], 3, 0.0),
        ([NodeStatus.CANCELLED, NodeStatus.COMPLETED, NodeStatus.IDLE], 3, 0.5),
        ([NodeStatus.SKIPPED], 1, 0.0),
    ],
)
def test_progress_is_the_executed_share_of_the_nodes_that_can_be_reached(
    statuses: list[NodeStatus], total: int, progress: float
) -> None:
    assert progress_of(statuses, total) == progress


def test_a_set_of_statuses_is_written_as_one_sql_list_in_a_fixed_order() -> None:
    assert sql_list(LEASED) == "('CANCELLING', 'PAUSING', 'RUNNING')"
    assert sql_list(EXECUTED) == "('COMPLETED', 'FAILED')"
