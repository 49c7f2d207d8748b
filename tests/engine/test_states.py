"""What docs/state_machine.md draws is what the code allows, arrow by arrow."""

import re

import pytest

from engine.states import EXECUTED, LEASED, TRANSITIONS, NodeStatus, RunStatus, check_move, progress_of, sql_list
from tests.paths import ROOT

DRAWN = ROOT / "docs" / "state_machine.md"
ARROW = re.compile(r"^ {4}([A-Z]+) --> ([A-Z]+)", re.MULTILINE)
ROW = re.compile(r"^\| ([A-Z, ()_]*[A-Z]) \| ([A-Z, ()_]+)[^|]*\| [^|]+\| [^|]+\| (`.+`) \|$", re.MULTILINE)


def names(text: str) -> list[RunStatus]:
    return [RunStatus(name) for name in re.sub(r"\(.*?\)", "", text).replace(",", " ").split()]


def allowed() -> set[tuple[RunStatus, RunStatus]]:
    return {(before, after) for before, afters in TRANSITIONS.items() for after in afters}


def test_every_arrow_is_drawn_and_nothing_else() -> None:
    drawn = {(RunStatus(before), RunStatus(after)) for before, after in ARROW.findall(DRAWN.read_text("utf-8"))}
    assert drawn == allowed()


def test_the_table_says_of_every_arrow_who_makes_it() -> None:
    made = {
        (before, after)
        for befores, afters, _ in ROW.findall(DRAWN.read_text("utf-8"))
        for before in names(befores)
        for after in names(afters)
    }
    assert made == allowed()


def test_every_place_that_the_table_names_is_there() -> None:
    for _, _, where in ROW.findall(DRAWN.read_text("utf-8")):
        for path, function in re.findall(r"`([a-z/_.]+)(?:: (\w+))?`", where):
            text = (DRAWN.parents[1] / path).read_text("utf-8")
            assert not function or f"def {function}(" in text, (path, function)


def test_a_move_that_is_not_drawn_is_refused_before_it_is_written() -> None:
    for before in RunStatus:
        for after in RunStatus:
            if (before, after) in allowed():
                check_move(before, after)
            else:
                with pytest.raises(ValueError, match=f"that is {before} cannot become {after}"):
                    check_move(before, after)


def test_a_status_that_is_over_leads_nowhere() -> None:
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
