"""Stored positions: what is stored, what a position adopts, and what it does that an older release left undone."""

from typing import Any

import pytest

from engine.graph.channels import NodeRecord
from engine.graph.plan import Plan
from engine.graph.position import Position, Progress
from engine.states import NodeStatus
from tests.engine.graph.test_plan import plan_of

Stored = dict[str, tuple[tuple[int, ...], str, bool]]
"""By name: the round, the settled parts (`b>d+ c>d-`: taken, dead), and whether it is done."""


def numbers(plan: Plan) -> dict[str, int]:
    out = [edge for node in plan.nodes.values() for edge in node.out]
    return {f"{edge.source}>{edge.target}": edge.index for edge in [*plan.starts, *out]}


def values_of(plan: Plan, stored: Stored) -> dict[str, Any]:
    """Return the channel values of a checkpoint."""
    known = numbers(plan)
    return {
        name: [list(round_), [[known.get(part[:-1], part[:-1]), part[-1] == "+"] for part in parts.split()], is_done]
        for name, (round_, parts, is_done) in stored.items()
    }


def loaded(plan: Plan, stored: Stored, **active: tuple[int, ...]) -> Position:
    """Return a position that was stored, in which the nodes `active` run."""
    position = Position(plan)
    records = {name: NodeRecord(NodeStatus.RUNNING, 1, round_) for name, round_ in active.items()}
    position.load(values_of(plan, stored), records, {})
    return position


def shown(progress: Progress) -> tuple[list[Any], list[Any], list[Any]]:
    return progress.due, progress.skipped, progress.restored


def test_a_position_stores_what_has_changed_since_it_was_stored_last() -> None:
    plan = plan_of("a>b a>c b>d c>d d>e")
    position = Position(plan)
    position.begin({edge.index for edge in plan.starts})
    assert not position.has_changes
    position.settle("a", {0, 1})
    position.settle("b", {2})
    assert position.has_changes
    expected = values_of(plan, {"gate:d": ((), "b>d+", False)})
    assert position.take_changes(is_full=False) == expected
    assert (position.take_changes(is_full=False), position.has_changes) == ({}, False)
    assert position.take_changes(is_full=True) == expected
    loop = plan_of("s>h h>j j>h j>x")
    position = loaded(loop, {"gate:x": ((), "", False)}, j=(4,))
    assert shown(position.settle("j", {numbers(loop)["j>h"]})) == ([("h", (5,))], [], [])
    changed = {"loop:h": ((4,), "j>h+", True)}
    assert position.take_changes(is_full=False) == values_of(loop, changed)
    assert position.take_changes(is_full=True) == values_of(loop, changed | {"gate:x": ((), "", False)})


JOIN, LOOP, ANY = "a>b a>c b>d c>d d>e", "s>h h>j h>k j>h k>h j>x", {"d": {"join": "any"}}
LEFT_UNDONE: dict[str, tuple[str, Any, Stored, tuple[list[Any], list[Any]], set[str]]] = {
    "a join of which every entry has settled": (
        JOIN,
        {},
        {"gate:d": ((), "b>d+ c>d-", False)},
        ([("d", ())], []),
        {"gate:d"},
    ),
    "a join of dead entries": (
        JOIN,
        {},
        {"gate:d": ((), "b>d- c>d-", False)},
        ([], [("d", ()), ("e", ())]),
        {"gate:d"},
    ),
    "a join that lacks an entry": (JOIN, {}, {"gate:d": ((), "b>d+", False)}, ([], []), set()),
    "a join that has fired": (JOIN, {}, {"gate:d": ((), "b>d+ c>d+", True)}, ([], []), set()),
    "a join by any with a taken entry": (
        JOIN,
        ANY,
        {"gate:d": ((), "b>d+", False)},
        ([("d", ())], []),
        {"gate:d"},
    ),
    "a join by any with a dead entry": (JOIN, ANY, {"gate:d": ((), "b>d-", False)}, ([], []), set()),
    "a round with a taken edge back": (
        LOOP,
        {},
        {"loop:h": ((3,), "j>h- k>h+", False)},
        ([("h", (4,))], []),
        {"loop:h"},
    ),
    "a round without a taken edge back": (
        LOOP,
        {},
        {"loop:h": ((3,), "j>h- k>h-", False)},
        ([], [("x", ())]),
        {"loop:h", "gate:x"},
    ),
    "a round that is not complete": (LOOP, {}, {"loop:h": ((3,), "j>h+", False)}, ([], []), set()),
    "a round that is over": (LOOP, {}, {"loop:h": ((3,), "j>h+ k>h+", True)}, ([], []), set()),
}


@pytest.mark.parametrize("name", LEFT_UNDONE)
def test_what_an_older_release_has_left_undone_is_done_once(name: str) -> None:
    text, fields, stored, expected, changed = LEFT_UNDONE[name]
    position = loaded(plan_of(text, **fields), stored)
    assert shown(position.wake()) == (*expected, [])
    assert position.take_changes(is_full=False).keys() == changed
    assert list(position.active.items()) == expected[0]
    assert shown(position.wake()) == ([], [], [])
    assert not position.has_changes


def test_a_position_adopts_joins_loops_and_the_visits_of_its_nodes() -> None:
    plan = plan_of("s>h h>j j>h h>b b>j j>x x>y s>y")
    stored: Stored = {
        "gate:j": ((2,), "h>j+", False),
        "gate:gone": ((), "", False),
        "loop:h": ((1,), "j>h+", True),
        "loop:gone": ((), "", False),
        "other:y": ((), "", False),
    }
    at = {"h": (2,), "b": (2,), "j": (1,), "s": (), "x": (), "y": ()}
    records = {
        "h": NodeRecord(NodeStatus.COMPLETED, 3, at["h"]),
        "b": NodeRecord(NodeStatus.WAITING, 2, at["b"]),
        "j": NodeRecord(NodeStatus.SKIPPED, 1, at["j"], visited=(NodeStatus.COMPLETED, (0,))),
        "s": NodeRecord(NodeStatus.FAILED, 1, at["s"]),
        "x": NodeRecord(NodeStatus.SKIPPED, 0, at["x"]),
    }
    position = Position(plan)
    position.load(values_of(plan, stored), records, {"y": ()})
    kept = {name: stored[name] for name in ("gate:j", "loop:h")}
    assert position.take_changes(is_full=False) == {}
    assert position.take_changes(is_full=True) == values_of(plan, kept)
    assert position.active == {"b": (2,), "y": ()}
    assert [name for name in at if position.has_run(name)] == ["h", "j", "s"]
    assert [name for name in at if position.is_skipped(name)] == ["j"]


NESTED, BY_ANY = "s>o o>i i>i i>k k>o k>x", "s>h h>a h>d a>d d>h d>x"
DEEP = "s>o o>i i>k k>k k>m m>i m>o m>x"
OLD: dict[str, tuple[str, Stored, Stored]] = {
    "an inner loop that is over": (NESTED, {"loop:i": ((0, 2), "i>i-", True)}, {"loop:o": ((0,), "i-", False)}),
    "a loop in an inner loop": (DEEP, {"loop:k": ((4, 5, 6), "k>k-", True)}, {"loop:i": ((4, 5), "k-", False)}),
    "an inner loop that goes on": (NESTED, {"loop:i": ((0, 2), "i>i+", True)}, {}),
    "an inner loop whose round is not over": (NESTED, {"loop:i": ((0, 2), "i>i-", False)}, {}),
    "an inner loop in a later round": (
        NESTED,
        {"loop:o": ((0,), "i- k>o+", True), "loop:i": ((1, 0), "i>i-", True)},
        {"loop:o": ((1,), "i-", False)},
    ),
    "an inner loop in this round": (
        NESTED,
        {"loop:o": ((1,), "k>o+", False), "loop:i": ((1, 0), "i>i-", True)},
        {"loop:o": ((1,), "k>o+ i-", False)},
    ),
    "an inner loop in an earlier round": (
        NESTED,
        {"loop:o": ((2,), "k>o+", False), "loop:i": ((1, 0), "i>i-", True)},
        {"loop:o": ((2,), "k>o+", False)},
    ),
    "a round that is over already": (
        NESTED,
        {"loop:o": ((1,), "k>o+", True), "loop:i": ((1, 0), "i>i-", True)},
        {"loop:o": ((1,), "k>o+", True)},
    ),
    "a complete join by any": (BY_ANY, {"gate:d": ((1,), "h>d+ a>d-", True)}, {"loop:h": ((1,), "gate:d-", False)}),
    "a join by any that lacks an entry": (BY_ANY, {"gate:d": ((1,), "h>d+", True)}, {}),
}


@pytest.mark.parametrize("name", OLD)
def test_the_parts_of_a_round_that_older_releases_did_not_store_are_added(name: str) -> None:
    text, stored, expected = OLD[name]
    plan = plan_of(text, **(ANY if text == BY_ANY else {}))
    position = loaded(plan, stored)
    assert position.take_changes(is_full=True) == values_of(plan, stored | expected)


def test_a_round_that_an_older_release_has_begun_ends_with_its_last_part() -> None:
    plan = plan_of(NESTED)
    position = loaded(plan, {"loop:i": ((0, 2), "i>i-", True)}, k=(0,))
    assert shown(position.settle("k", {numbers(plan)["k>o"]})) == ([("o", (1,))], [], [])


def test_a_round_of_three_loops_ends_in_each_of_them() -> None:
    plan = plan_of(DEEP)
    known = numbers(plan)
    assert shown(loaded(plan, {}, k=(4, 5, 6)).settle("k", {known["k>k"]})) == ([("k", (4, 5, 7))], [], [])
    position = loaded(plan, {}, k=(4, 5, 6))
    assert shown(position.settle("k", {known["k>m"]})) == ([("m", (4, 5))], [], [])
    changed: Stored = {"loop:k": ((4, 5, 6), "k>k-", True), "loop:i": ((4, 5), "k-", False)}
    assert {**position.take_changes(is_full=False)}.items() >= values_of(plan, changed).items()
    assert shown(position.settle("m", {known["m>i"]})) == ([("i", (4, 6))], [], [])


BESIDE, BACK = "s>h h>b h>c b>j c>j j>h j>x", "s>h h>a h>b a>h b>h a>x"
Delivery = tuple[str, tuple[int, ...], bool]
DELIVERIES: dict[str, tuple[str, Stored, Delivery, Stored, list[Any]]] = {
    "the first entry of a join": (BESIDE, {}, ("b>j", (0,), True), {"gate:j": ((0,), "b>j+", False)}, []),
    "the last entry of a join": (
        BESIDE,
        {"gate:j": ((0,), "b>j+", False)},
        ("c>j", (0,), False),
        {"gate:j": ((0,), "b>j+ c>j-", True)},
        [("j", (0,))],
    ),
    "an entry of a later round": (
        BESIDE,
        {"gate:j": ((0,), "b>j+ c>j+", True)},
        ("b>j", (1,), False),
        {"gate:j": ((1,), "b>j-", False)},
        [],
    ),
    "an entry of an earlier round": (BESIDE, {"gate:j": ((2,), "b>j+", False)}, ("c>j", (1,), True), {}, []),
    "a taken entry again": (BESIDE, {"gate:j": ((0,), "b>j+", False)}, ("b>j", (0,), True), {}, []),
    "a taken entry as a dead one": (BESIDE, {"gate:j": ((0,), "b>j+", False)}, ("b>j", (0,), False), {}, []),
    "a dead entry again": (BESIDE, {"gate:j": ((0,), "b>j-", False)}, ("b>j", (0,), False), {}, []),
    "a dead entry as a taken one": (
        BESIDE,
        {"gate:j": ((0,), "b>j-", False)},
        ("b>j", (0,), True),
        {"gate:j": ((0,), "b>j+", False)},
        [],
    ),
    "a single entry": (BESIDE, {}, ("h>c", (5,), True), {}, [("c", (5,))]),
    "the edge of the start": (BESIDE, {}, ("__start__>s", (), True), {}, [("s", ())]),
    "the first edge back of a round": (BACK, {}, ("a>h", (0,), True), {"loop:h": ((0,), "a>h+", False)}, []),
    "the last edge back of a round": (
        BACK,
        {"loop:h": ((0,), "a>h+", False)},
        ("b>h", (0,), False),
        {"loop:h": ((0,), "a>h+ b>h-", True)},
        [("h", (1,))],
    ),
    "a taken edge back as a dead one": (
        BACK,
        {"loop:h": ((0,), "a>h+", False)},
        ("a>h", (0,), False),
        {"loop:h": ((0,), "a>h+", False)},
        [],
    ),
    "an edge back of a later round": (
        BACK,
        {"loop:h": ((0,), "a>h+ b>h+", True)},
        ("b>h", (1,), False),
        {"loop:h": ((1,), "b>h-", False)},
        [],
    ),
    "an edge back of an earlier round": (BACK, {"loop:h": ((2,), "a>h+", False)}, ("b>h", (1,), True), {}, []),
    "an edge back of a round that is over": (BACK, {"loop:h": ((2,), "a>h+ b>h-", True)}, ("b>h", (2,), True), {}, []),
}


@pytest.mark.parametrize("name", DELIVERIES)
def test_an_edge_settles_in_the_round_of_its_join_or_loop(name: str) -> None:
    text, stored, (edge, round_, taken), changed, due = DELIVERIES[name]
    plan = plan_of(text)
    position = loaded(plan, stored)
    assert shown(position.deliver(numbers(plan)[edge], round_, taken)) == (due, [], [])
    assert position.take_changes(is_full=False) == values_of(plan, changed)
    assert position.take_changes(is_full=True) == values_of(plan, stored | changed)


def test_a_join_by_any_in_a_loop_runs_once_in_a_round_and_the_round_waits_for_its_other_entry() -> None:
    plan = plan_of(BY_ANY, **ANY)
    known = numbers(plan)
    position = loaded(plan, {}, h=(0,))
    assert position.settle("h", {known["h>a"], known["h>d"]}).due == [("a", (0,)), ("d", (0,))]
    assert position.active == {"d": (0,), "a": (0,)}
    assert shown(position.settle("d", {known["d>h"]})) == ([], [], [])
    assert shown(position.settle("a", {known["a>d"]})) == ([("h", (1,))], [], [])


@pytest.mark.parametrize(("entry", "passed"), [((0,), (True, True)), ((1,), (True, False)), ((2,), (False, False))])
def test_a_join_has_passed_a_round_that_is_earlier_or_has_fired(entry: tuple[int], passed: tuple[bool, bool]) -> None:
    plan = plan_of(BY_ANY, **ANY)
    for is_fired, expected in zip((True, False), passed, strict=True):
        position = loaded(plan, {"gate:d": ((1,), "h>d+", is_fired)})
        assert position.has_passed("d", entry) is expected
    assert not Position(plan).has_passed("d", entry)


def test_a_cancelled_visit_leaves_by_no_edge_and_shows_no_output() -> None:
    plan = plan_of("a>b b>c c>d a>d")
    position = loaded(plan, {}, a=())
    with pytest.raises(KeyError):
        position.cancel("b")
    position.settle("a", {0, 3})
    assert shown(position.cancel("b")) == ([("d", ())], [("c", ())], [])
    assert position.active == {"d": ()}
    assert [name for name in "abcd" if position.has_run(name)] == ["a"]
    assert [name for name in "abcd" if position.is_skipped(name)] == ["c"]


def test_the_end_of_a_loop_shows_the_visits_since_it_was_entered_again() -> None:
    """In the last round of `i`, the nodes `b` and `c` are skipped. Only `b` has run since `i` was entered."""
    plan = plan_of("s>o o>i i>b i>c i>j b>j c>j j>i j>k k>o k>x")
    records = {
        "b": NodeRecord(NodeStatus.SKIPPED, 1, (1, 1), visited=(NodeStatus.COMPLETED, (1, 0))),
        "c": NodeRecord(NodeStatus.SKIPPED, 1, (1, 1), visited=(NodeStatus.COMPLETED, (0, 0))),
        "j": NodeRecord(NodeStatus.RUNNING, 4, (1, 1)),
    }
    position = Position(plan)
    position.load({}, records, {})
    progress = position.settle("j", {numbers(plan)["j>k"]})
    assert shown(progress) == ([("k", (1,))], [], ["b"])
    assert [name for name in "bc" if position.is_skipped(name)] == ["c"]
