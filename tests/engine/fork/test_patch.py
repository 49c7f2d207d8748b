"""A patched run comes out as a run from scratch would with that output pinned, and runs again what follows from it alone."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fork.frontier import Frontier, restart_unfinished
from engine.fork.migration import migrate_frontier
from engine.fork.patch import HAS_OUTPUT, PatchRefused, apply_patch, settle_patched
from engine.graph.channels import NodeRecord
from engine.nodes.registry import load_node_types
from engine.sdk.node import ANSWERED, NodeConfig, NodeType, PortUndecided
from engine.states import NodeStatus, RunStatus
from tests.engine.checkpoint_history import PlayedRun, compiled, play, with_outputs
from tests.engine.fork_graphs import LOOPS, dags, following, mixed, pinned


def fork(whole: PlayedRun, at: int, patch: dict[str, Any], onto: dict[str, Any] | None = None) -> Frontier:
    """As forkRun makes one."""
    old, new = whole.compiled, compiled(onto or whole.raw)
    frontier = restart_unfinished(old.plan, whole.frontier(at))
    frontier = apply_patch(old.plan, frontier, whole.history(at), patch)
    frontier = migrate_frontier(old.plan, new.plan, frontier, patch)
    return settle_patched(new.plan, new.bound_nodes, with_outputs(frontier, whole.outputs), patch, "run_test", {})


async def forked(whole: PlayedRun, at: int, patch: dict[str, Any], onto: dict[str, Any] | None = None) -> PlayedRun:
    frontier = fork(whole, at, patch, onto)
    known = {**whole.outputs, **{(name, frontier.records[name].visits): output for name, output in patch.items()}}
    return await play(onto or whole.raw, (frontier, whole.snapshots[at].step), known)


Fresh = dict[Any, PlayedRun]
"""Runs from scratch, by what was pinned in them."""


def ended(whole: PlayedRun, at: int) -> dict[tuple[str, int], tuple[int, int]]:
    """By visit: the checkpoints in which it began and ended."""
    return {
        (name, turn.visits): (turn.began, turn.ended)
        for name, turns in whole.history(at).visits.items()
        for turn in turns
        if turn.ended is not None and turn.status is not NodeStatus.SKIPPED
    }


async def as_pinned(
    whole: PlayedRun, at: int, name: str, value: int, known: Fresh, copied: Collection[tuple[str, int]] = ()
) -> None:
    """Patches one node at one checkpoint, and compares with the run from scratch."""
    slot = whole.frontier(at).records[name]
    visit, patch = (name, slot.visits), {name: {"v": value, "n": slot.visits}}
    if (visit, value) not in known:
        known[visit, value] = await play(pinned(whole.raw, {visit: patch[name]}))
    fresh, rest = known[visit, value], await forked(whole, at, patch)
    assert (rest.status, rest.output) == (fresh.status, fresh.output)
    assert len(set(rest.ran)) == len(rest.ran) and visit not in rest.ran
    done = ended(whole, at)
    assert set(fresh.ran) - set(rest.ran) <= {*done, *copied, visit}, "nothing is left out that had not run"
    began = whole.history(at).visits[name][-1].began
    earlier = {other for other, (_, end) in done.items() if end < began}
    assert not earlier & set(rest.ran), "nothing that had ended before runs again"
    is_acyclic = all(number == 1 for _, number in fresh.ran)
    if is_acyclic and name not in following(whole.raw, name):
        stays = {other for other in done if other[0] not in following(whole.raw, name)} | {visit}
        assert set(rest.ran) == set(fresh.ran) - stays


async def patched_everywhere(raw: dict[str, Any], values: list[int]) -> None:
    whole = await play(raw)
    known: Fresh = {}
    for at in range(len(whole.snapshots)):
        for name, slot in whole.frontier(at).records.items():
            if slot.status in HAS_OUTPUT:
                for value in values:
                    await as_pinned(whole, at, name, value, known)


@settings(max_examples=25, deadline=None)
@given(dags(), st.integers(0, 6))
def test_a_patch_anywhere_in_an_acyclic_graph_is_a_pinned_node(raw: dict[str, Any], value: int) -> None:
    asyncio.run(patched_everywhere(raw, [value]))


@pytest.mark.parametrize("name", LOOPS)
async def test_a_patch_anywhere_in_a_loop_is_a_pinned_visit(name: str) -> None:
    await patched_everywhere(LOOPS[name], [1, 5])


async def test_a_patched_node_sends_the_run_another_way() -> None:
    raw = mixed("a>b a>c b>d c>d a>q q>d", {"a>b": "{v} > 500", "a>c": "{v} <= 500"}, slow="q")
    whole = await play(raw)
    took = "b" if ("b", 1) in whole.ran else "c"
    other = {"b": "c", "c": "b"}[took]
    rest = await forked(whole, -1 % len(whole.snapshots), {"a": {"v": 1 if took == "b" else 900, "n": 1}})
    assert {name for name, _ in rest.ran} == {other, "d", "q"}


async def test_two_branches_can_be_patched_together() -> None:
    raw = mixed("a>b a>c b>d c>d c>e d>z e>z", slow="b")
    whole = await play(raw)
    patch = {"b": {"v": 3, "n": 1}, "c": {"v": 4, "n": 1}}
    rest = await forked(whole, len(whole.snapshots) - 1, patch)
    fresh = await play(pinned(raw, {("b", 1): patch["b"], ("c", 1): patch["c"]}))
    assert (rest.output, sorted(rest.ran)) == (fresh.output, [("d", 1), ("e", 1), ("z", 1)])


async def test_a_branch_that_a_join_of_any_did_not_wait_for_does_not_make_it_run_again() -> None:
    raw = mixed("a>b a>c b>j c>j j>z c>y", slow="c", j={"join": "any"})
    raw["nodes"][2]["config"]["turns"] = 60
    whole = await play(raw)
    rest = await forked(whole, len(whole.snapshots) - 1, {"c": {"v": 1, "n": 1}})
    assert [name for name, _ in rest.ran] == ["y"]


async def test_what_an_earlier_round_sent_out_of_a_loop_stays() -> None:
    whole = await play(mixed("s>h h>w w>h w>x x>y", {"w>h": "{n} < 4"}, slow="h w"))
    at = len(whole.snapshots) - 1
    assert (await forked(whole, at, {"w": {"v": 1, "n": 4}})).ran == []
    at = next(at for at in range(at) if whole.frontier(at).records.get("h", NodeRecord(NodeStatus.IDLE)).visits == 4)
    assert {"x", "y"} <= whole.frontier(at).records.keys()
    rest = await forked(whole, at, {"w": {"v": 1, "n": 3}})
    assert rest.ran == [("h", 4), ("w", 4)]


async def test_a_node_that_failed_the_run_can_be_given_its_output() -> None:
    raw = mixed("a>b b>c")
    raw["nodes"][1]["config"]["fails"] = 1
    whole = await play(raw)
    assert whole.status is RunStatus.FAILED
    rest = await forked(whole, len(whole.snapshots) - 1, {"b": {"v": 1, "n": 1}})
    assert (rest.status, rest.ran) == (RunStatus.COMPLETED, [("c", 1)])


def refusal(whole: PlayedRun, patch: dict[str, Any], onto: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(PatchRefused) as caught:
        fork(whole, len(whole.snapshots) - 1, patch, onto)
    return [(problem.field, problem.code) for problem in caught.value.problems]


async def test_all_that_is_wrong_with_a_patch_is_told_at_once() -> None:
    whole = await play(mixed("a>b a>c", {"a>c": "false"}))
    problems = refusal(whole, {"a": float("nan"), "c": 1, "x": 1})
    assert problems == [
        ("input.patch.a", "NOT_STORABLE"),
        ("input.patch.c", "NOT_RUN"),
        ("input.patch.x", "UNKNOWN_NODE"),
    ]


async def test_a_patched_node_that_follows_from_another_is_refused() -> None:
    whole = await play(mixed("a>b b>c"))
    with pytest.raises(PatchRefused, match="patch only 'a'"):
        fork(whole, len(whole.snapshots) - 1, {"a": 1, "c": 2})


async def test_a_condition_that_a_patch_breaks_is_a_problem() -> None:
    whole = await play(mixed("a>b", {"a>b": "{v} >= 0"}))
    assert refusal(whole, {"a": "text"}) == [("input.patch.a", "EXPRESSION")]


async def test_the_output_of_a_conditional_or_a_switch_tells_its_port() -> None:
    cases = {"cases": [{"port": "one", "condition": "true"}], "default": "two"}
    raw: dict[str, Any] = {
        "nodes": [
            {"id": "c", "type": "conditional", "config": {"condition": "true"}},
            {"id": "s", "type": "switch", "config": cases},
            *[{"id": name, "type": "mix", "config": {}} for name in ("yes", "no", "one", "two")],
        ],
        "edges": [
            {"source": "c", "target": "yes", "port": "true"},
            {"source": "c", "target": "no", "port": "false"},
            {"source": "s", "target": "one", "port": "one"},
            {"source": "s", "target": "two", "port": "two"},
        ],
    }
    whole = await play(raw)
    rest = await forked(whole, len(whole.snapshots) - 1, {"c": {"result": False}, "s": {"port": "two"}})
    assert sorted(name for name, _ in rest.ran) == ["no", "two"]
    assert refusal(whole, {"c": True}) == [("input.patch.c", "PORT_UNKNOWN")]
    assert refusal(whole, {"s": {"port": "three"}}) == [("input.patch.s", "PORT_UNKNOWN")]


class PortsConfig(NodeConfig):
    pass


class NamedPorts(NodeType[PortsConfig]):
    """A type whose ports are known and whose output does not tell which of them a node leaves by."""

    name = "ports"
    title = "Ports"
    description = "For tests."
    Config = PortsConfig
    ports = ("left", "right")


def test_a_type_with_named_ports_must_say_which_output_leaves_by_which() -> None:
    with pytest.raises(PortUndecided) as caught:
        NamedPorts().port_of(PortsConfig(), {"any": "output"})
    assert (caught.value.ports, caught.value.example) == (("left", "right"), None)


def test_a_patched_question_leaves_by_answered() -> None:
    human = load_node_types()["human"]
    assert human.port_of(human.Config.model_validate({"prompt": "?"}), {"any": "answer"}) == ANSWERED


def test_a_type_without_ports_leaves_by_the_edges_without_one() -> None:
    transform = load_node_types()["transform"]
    assert transform.port_of(transform.Config.model_validate({"output": 1}), 2) is None


@pytest.mark.parametrize("name", LOOPS)
async def test_a_patch_in_a_copy_is_a_pinned_visit_where_what_came_before_is_known(name: str) -> None:
    whole = await play(LOOPS[name])
    done = 0
    known: Fresh = {}
    for middle in range(len(whole.snapshots)):
        frontier = restart_unfinished(whole.compiled.plan, whole.frontier(middle))
        copy = await play(whole.raw, (frontier, whole.snapshots[middle].step), whole.outputs)
        at = len(copy.snapshots) - 1
        for node_id, slot in copy.frontier(at).records.items():
            if slot.status in HAS_OUTPUT:
                try:
                    await as_pinned(copy, at, node_id, 1, known, ended(whole, middle))
                    done += 1
                except PatchRefused as refused:
                    assert [problem.code for problem in refused.problems] == ["PAST_UNKNOWN"]
                    assert any(slot.round)
    assert done >= 2 * len(whole.snapshots)


EXTENDED = "a>b b>c"


async def onto(edges: str, at_end: bool = True, **more: Any) -> PlayedRun:
    """A run of `a>b b>c`, forked onto a version with these edges from its end, or from where `c` is due."""
    whole = await play(mixed(EXTENDED))
    at = len(whole.snapshots) - (1 if at_end else 2)
    return await forked(whole, at, {}, mixed(edges, **more))


async def test_a_fork_onto_a_version_with_a_node_more_runs_that_node() -> None:
    rest = await onto("a>b b>c c>d")
    assert (rest.status, rest.ran) == (RunStatus.COMPLETED, [("d", 1)])
    assert (await onto("a>b b>c c>d", at_end=False)).ran == [("c", 1), ("d", 1)]


async def test_a_fork_onto_a_version_can_join_what_did_not_join_before() -> None:
    rest = await onto("a>b b>c x>c", at_end=False)
    assert rest.ran == [("x", 1), ("c", 1)]
    whole = await play(mixed("a>b b>c a>d d>c", {"a>d": "{v} < 0"}))
    at = next(at for at in range(len(whole.snapshots)) if "b" in whole.frontier(at).records)
    assert (await forked(whole, at, {}, mixed("a>b b>c"))).ran == [("c", 1)], "a node that was skipped may go"


async def test_a_node_whose_only_entry_is_dead_in_the_other_version_is_skipped() -> None:
    whole = await play(mixed("a>d b>d d>e", {"a>d": "{v} < 0"}, slow="b"))
    at = next(at for at in range(len(whole.snapshots)) if "a" in whole.frontier(at).records)
    rest = await forked(whole, at, {}, mixed("a>d d>e b>q", {"a>d": "{v} < 0"}, slow="b"))
    assert {name for name, _ in rest.ran} == {"b", "q"}


@pytest.mark.parametrize(
    ("edges", "more", "code"),
    [
        ("a>b", {}, "MISSING_NODE"),
        ("a>b b>c", {"slow": "b"}, "OTHER_TYPE"),
        ("a>b b>c b>a", {"conditions": {"b>a": "false"}}, "OTHER_LOOPS"),
        ("a>b b>c c>d", {"conditions": {"c>d": "true"}}, "UNDECIDED_EDGE"),
        ("a>b b>c c>x x>y y>b", {"conditions": {"y>b": "false"}}, "OTHER_LOOPS"),
    ],
)
async def test_a_version_that_does_not_fit_is_refused(edges: str, more: dict[str, Any], code: str) -> None:
    whole = await play(mixed(EXTENDED))
    problems = refusal(whole, {}, mixed(edges, **more))
    assert {problem for _, problem in problems} == {code}
    assert {field for field, _ in problems} == {"input.versionId"}


async def test_a_new_edge_from_a_node_that_comes_later_is_refused_where_its_target_has_begun() -> None:
    whole = await play(mixed("a>b a>c c>d", slow="c"))
    at = next(at for at in range(len(whole.snapshots)) if "b" in whole.frontier(at).records)
    with pytest.raises(PatchRefused) as caught:
        fork(whole, at, {}, mixed("a>b a>c c>d d>b", slow="c"))
    assert [problem.code for problem in caught.value.problems] == ["LATE_EDGE"]


async def test_a_patched_node_may_have_new_edges() -> None:
    whole = await play(mixed(EXTENDED))
    new = mixed("a>b b>c c>d", {"c>d": "{v} > 5"})
    rest = await forked(whole, len(whole.snapshots) - 1, {"c": {"v": 9, "n": 1}}, new)
    assert rest.ran == [("d", 1)]
