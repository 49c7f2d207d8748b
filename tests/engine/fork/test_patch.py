"""A patched fork ends as a new run with that output, and repeats only the dependent nodes."""

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
from tests.engine.checkpoint_history import PlayedRun, compile_mix, play, with_outputs
from tests.engine.fork_graphs import LOOPS, dags, mix_spec, pin_outputs, reachable
from tests.samples import sample


def fork_frontier(original: PlayedRun, at: int, patch: dict[str, Any], onto: dict[str, Any] | None = None) -> Frontier:
    """Make the frontier of a fork, as the mutation forkRun does."""
    old, new = original.compiled, compile_mix(onto or original.raw)
    frontier = restart_unfinished(old.plan, original.frontier(at))
    frontier = apply_patch(old.plan, frontier, original.history(at), patch)
    frontier = migrate_frontier(old.plan, new.plan, frontier, patch)
    return settle_patched(new.plan, new.bound_nodes, with_outputs(frontier, original.outputs), patch, "run_test", {})


async def play_fork(
    original: PlayedRun, at: int, patch: dict[str, Any], onto: dict[str, Any] | None = None
) -> PlayedRun:
    """Fork a run at snapshot `at`, and execute the fork."""
    frontier = fork_frontier(original, at, patch, onto)
    outputs = {**original.outputs, **{(name, frontier.records[name].visits): output for name, output in patch.items()}}
    return await play(onto or original.raw, (frontier, original.snapshots[at].step), outputs)


NewRuns = dict[Any, PlayedRun]
"""New runs with one fixed output, by visit and output."""


def finished_visits(original: PlayedRun, at: int) -> dict[tuple[str, int], tuple[int, int]]:
    """Return by finished visit the checkpoints in which it began and ended."""
    return {
        (name, visit.visits): (visit.began, visit.ended)
        for name, visits in original.history(at).visits.items()
        for visit in visits
        if visit.ended is not None and visit.status is not NodeStatus.SKIPPED
    }


async def check_patch(
    original: PlayedRun, at: int, name: str, value: int, new_runs: NewRuns, copied: Collection[tuple[str, int]] = ()
) -> None:
    """Patch a node at a checkpoint, and compare the fork with a new run with that output."""
    record = original.frontier(at).records[name]
    visit, patch = (name, record.visits), {name: {"v": value, "n": record.visits}}
    if (visit, value) not in new_runs:
        new_runs[visit, value] = await play(pin_outputs(original.raw, {visit: patch[name]}))
    new_run, rest = new_runs[visit, value], await play_fork(original, at, patch)
    assert (rest.status, rest.output) == (new_run.status, new_run.output)
    assert len(set(rest.ran)) == len(rest.ran) and visit not in rest.ran
    finished = finished_visits(original, at)
    assert set(new_run.ran) - set(rest.ran) <= {*finished, *copied, visit}, "every visit that had not run must run"
    began = original.history(at).visits[name][-1].began
    earlier = {other for other, (_, end) in finished.items() if end < began}
    assert not earlier & set(rest.ran), "no visit that ended before the patched one may run again"
    is_acyclic = all(number == 1 for _, number in new_run.ran)
    if is_acyclic and name not in reachable(original.raw, name):
        stays = {other for other in finished if other[0] not in reachable(original.raw, name)} | {visit}
        assert set(rest.ran) == set(new_run.ran) - stays


def places(original: PlayedRun) -> range:
    """Return the checkpoints at which patches are tried; the last one is always among them."""
    return range(len(original.snapshots) - 1, -1, -sample(4, 1))


async def check_all_patches(raw: dict[str, Any], values: list[int]) -> None:
    original = await play(raw)
    new_runs: NewRuns = {}
    for at in places(original):
        for name, record in original.frontier(at).records.items():
            if record.status in HAS_OUTPUT:
                for value in values:
                    await check_patch(original, at, name, value, new_runs)


@settings(max_examples=sample(8, 100))
@given(dags(), st.integers(0, 6))
def test_a_patch_in_an_acyclic_graph_equals_a_new_run_with_that_output(raw: dict[str, Any], value: int) -> None:
    asyncio.run(check_all_patches(raw, [value]))


@pytest.mark.parametrize("name", LOOPS)
async def test_a_patch_in_a_loop_equals_a_new_run_with_that_output(name: str) -> None:
    await check_all_patches(LOOPS[name], sample([5], [1, 5]))


async def test_a_patch_can_route_the_fork_to_another_branch() -> None:
    raw = mix_spec("a>b a>c b>d c>d a>q q>d", {"a>b": "{v} > 500", "a>c": "{v} <= 500"}, slow="q")
    original = await play(raw)
    took = "b" if ("b", 1) in original.ran else "c"
    other = {"b": "c", "c": "b"}[took]
    rest = await play_fork(original, -1 % len(original.snapshots), {"a": {"v": 1 if took == "b" else 900, "n": 1}})
    assert {name for name, _ in rest.ran} == {other, "d", "q"}


async def test_two_branches_can_be_patched_together() -> None:
    raw = mix_spec("a>b a>c b>d c>d c>e d>z e>z", slow="b")
    original = await play(raw)
    patch = {"b": {"v": 3, "n": 1}, "c": {"v": 4, "n": 1}}
    rest = await play_fork(original, len(original.snapshots) - 1, patch)
    new_run = await play(pin_outputs(raw, {("b", 1): patch["b"], ("c", 1): patch["c"]}))
    assert (rest.output, sorted(rest.ran)) == (new_run.output, [("d", 1), ("e", 1), ("z", 1)])


async def test_a_patched_branch_that_a_join_of_any_did_not_need_does_not_rerun_the_join() -> None:
    raw = mix_spec("a>b a>c b>j c>j j>z c>y", slow="c", j={"join": "any"})
    raw["nodes"][2]["config"]["turns"] = 60
    original = await play(raw)
    rest = await play_fork(original, len(original.snapshots) - 1, {"c": {"v": 1, "n": 1}})
    assert [name for name, _ in rest.ran] == ["y"]


async def test_an_exit_taken_in_an_earlier_round_of_the_loop_stays_taken() -> None:
    original = await play(mix_spec("s>h h>w w>h w>x x>y", {"w>h": "{n} < 4"}, slow="h w"))
    at = len(original.snapshots) - 1
    assert (await play_fork(original, at, {"w": {"v": 1, "n": 4}})).ran == []
    at = next(at for at in range(at) if original.frontier(at).records.get("h", NodeRecord(NodeStatus.IDLE)).visits == 4)
    assert {"x", "y"} <= original.frontier(at).records.keys()
    rest = await play_fork(original, at, {"w": {"v": 1, "n": 3}})
    assert rest.ran == [("h", 4), ("w", 4)]


async def test_a_node_that_failed_the_run_can_be_patched() -> None:
    raw = mix_spec("a>b b>c")
    raw["nodes"][1]["config"]["fails"] = 1
    original = await play(raw)
    assert original.status is RunStatus.FAILED
    rest = await play_fork(original, len(original.snapshots) - 1, {"b": {"v": 1, "n": 1}})
    assert (rest.status, rest.ran) == (RunStatus.COMPLETED, [("c", 1)])


def refused_problems(
    original: PlayedRun, patch: dict[str, Any], onto: dict[str, Any] | None = None
) -> list[tuple[str, str]]:
    with pytest.raises(PatchRefused) as caught:
        fork_frontier(original, len(original.snapshots) - 1, patch, onto)
    return [(problem.field, problem.code) for problem in caught.value.problems]


async def test_all_problems_of_a_patch_are_reported_together() -> None:
    original = await play(mix_spec("a>b a>c", {"a>c": "false"}))
    problems = refused_problems(original, {"a": float("nan"), "c": 1, "x": 1})
    assert problems == [
        ("input.patch.a", "NOT_STORABLE"),
        ("input.patch.c", "NOT_RUN"),
        ("input.patch.x", "UNKNOWN_NODE"),
    ]


async def test_two_patched_nodes_that_depend_on_each_other_are_refused() -> None:
    original = await play(mix_spec("a>b b>c"))
    with pytest.raises(PatchRefused, match="patch only 'a'"):
        fork_frontier(original, len(original.snapshots) - 1, {"a": 1, "c": 2})


async def test_a_condition_that_fails_with_the_patched_output_is_a_problem() -> None:
    original = await play(mix_spec("a>b", {"a>b": "{v} >= 0"}))
    assert refused_problems(original, {"a": "text"}) == [("input.patch.a", "EXPRESSION")]


async def test_the_output_of_a_conditional_or_a_switch_determines_its_port() -> None:
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
    original = await play(raw)
    rest = await play_fork(original, len(original.snapshots) - 1, {"c": {"result": False}, "s": {"port": "two"}})
    assert sorted(name for name, _ in rest.ran) == ["no", "two"]
    assert refused_problems(original, {"c": True}) == [("input.patch.c", "PORT_UNKNOWN")]
    assert refused_problems(original, {"s": {"port": "three"}}) == [("input.patch.s", "PORT_UNKNOWN")]


class PortsConfig(NodeConfig):
    pass


class NamedPorts(NodeType[PortsConfig]):
    """A type with named ports whose output does not determine the port."""

    name = "ports"
    title = "Ports"
    description = "For tests."
    Config = PortsConfig
    ports = ("left", "right")


def test_a_type_with_named_ports_that_does_not_override_port_of_is_undecided() -> None:
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
async def test_a_patch_in_a_copy_works_where_the_history_is_known(name: str) -> None:
    original = await play(LOOPS[name])
    count = 0
    new_runs: NewRuns = {}
    for middle in places(original):
        frontier = restart_unfinished(original.compiled.plan, original.frontier(middle))
        copy = await play(original.raw, (frontier, original.snapshots[middle].step), original.outputs)
        at = len(copy.snapshots) - 1
        for node_id, record in copy.frontier(at).records.items():
            if record.status in HAS_OUTPUT:
                try:
                    await check_patch(copy, at, node_id, 1, new_runs, finished_visits(original, middle))
                    count += 1
                except PatchRefused as refused:
                    assert [problem.code for problem in refused.problems] == ["PAST_UNKNOWN"]
                    assert any(record.round)
    assert count >= 2 * len(places(original))


EXTENDED = "a>b b>c"


async def play_onto(edges: str, at_end: bool = True, **more: Any) -> PlayedRun:
    """Run `a>b b>c`, and fork it onto other edges, at its end or where `c` is due."""
    original = await play(mix_spec(EXTENDED))
    at = len(original.snapshots) - (1 if at_end else 2)
    return await play_fork(original, at, {}, mix_spec(edges, **more))


async def test_a_fork_onto_a_version_with_another_node_runs_that_node() -> None:
    rest = await play_onto("a>b b>c c>d")
    assert (rest.status, rest.ran) == (RunStatus.COMPLETED, [("d", 1)])
    assert (await play_onto("a>b b>c c>d", at_end=False)).ran == [("c", 1), ("d", 1)]


async def test_a_node_can_become_a_join_in_the_other_version() -> None:
    rest = await play_onto("a>b b>c x>c", at_end=False)
    assert rest.ran == [("x", 1), ("c", 1)]
    original = await play(mix_spec("a>b b>c a>d d>c", {"a>d": "{v} < 0"}))
    at = next(at for at in range(len(original.snapshots)) if "b" in original.frontier(at).records)
    assert (await play_fork(original, at, {}, mix_spec("a>b b>c"))).ran == [("c", 1)], (
        "a skipped node may be missing in the new version"
    )


async def test_a_node_whose_only_entry_in_the_other_version_is_dead_is_skipped() -> None:
    original = await play(mix_spec("a>d b>d d>e", {"a>d": "{v} < 0"}, slow="b"))
    at = next(at for at in range(len(original.snapshots)) if "a" in original.frontier(at).records)
    rest = await play_fork(original, at, {}, mix_spec("a>d d>e b>q", {"a>d": "{v} < 0"}, slow="b"))
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
async def test_a_version_that_does_not_fit_the_run_is_refused(edges: str, more: dict[str, Any], code: str) -> None:
    original = await play(mix_spec(EXTENDED))
    problems = refused_problems(original, {}, mix_spec(edges, **more))
    assert {problem for _, problem in problems} == {code}
    assert {field for field, _ in problems} == {"input.versionId"}


async def test_a_new_edge_from_an_unfinished_node_is_refused_if_its_target_has_begun() -> None:
    original = await play(mix_spec("a>b a>c c>d", slow="c"))
    at = next(at for at in range(len(original.snapshots)) if "b" in original.frontier(at).records)
    with pytest.raises(PatchRefused) as caught:
        fork_frontier(original, at, {}, mix_spec("a>b a>c c>d d>b", slow="c"))
    assert [problem.code for problem in caught.value.problems] == ["LATE_EDGE"]


async def test_a_patched_node_may_have_new_edges() -> None:
    original = await play(mix_spec(EXTENDED))
    new = mix_spec("a>b b>c c>d", {"c>d": "{v} > 5"})
    rest = await play_fork(original, len(original.snapshots) - 1, {"c": {"v": 9, "n": 1}}, new)
    assert rest.ran == [("d", 1)]
