"""The plan of a graph: the kind and the rounds of each edge, the loops, and where a run begins."""

from typing import Any

import pytest

from engine.graph.plan import EdgeKind, Plan, PlanError, find_starts, make_plan, strongly_connected
from engine.spec.parser import parse
from tests.executor_worker import edges, node

FORWARD, EXIT, BACK = EdgeKind.FORWARD, EdgeKind.EXIT, EdgeKind.BACK


def plan_of(text: str, order: str = "", **fields: dict[str, Any]) -> Plan:
    """Return the plan of the edges `a>b b>c`, with the nodes in `order` and with more fields of a node."""
    arrows = edges(text)
    names = order.split() or list(dict.fromkeys(end for edge in arrows for end in (edge["source"], edge["target"])))
    nodes = [node(name, **fields.get(name, {})) for name in names if name not in ("__start__", "__end__")]
    return make_plan(parse({"nodes": nodes, "edges": arrows}))


EDGES: dict[str, tuple[str, dict[str, tuple[EdgeKind, int, int]]]] = {
    "nested loops": (
        "s>o o>i i>k k>i k>e k>x k>o e>o e>x x>y s>y",
        {
            "s>o": (FORWARD, 0, 0),
            "o>i": (FORWARD, 1, 0),
            "i>k": (FORWARD, 2, 0),
            "k>i": (BACK, 2, 0),
            "k>e": (EXIT, 1, 1),
            "k>x": (EXIT, 0, 2),
            "k>o": (BACK, 1, 1),
            "e>o": (BACK, 1, 0),
            "e>x": (EXIT, 0, 1),
            "x>y": (FORWARD, 0, 0),
            "s>y": (FORWARD, 0, 0),
        },
    ),
    "two loops side by side in a third": (
        "s>o o>p p>p p>q q>q q>o q>x",
        {
            "p>p": (BACK, 2, 0),
            "p>q": (EXIT, 1, 1),
            "q>q": (BACK, 2, 0),
            "q>o": (BACK, 1, 1),
            "q>x": (EXIT, 0, 2),
        },
    ),
    "one loop after another": ("a>a a>b b>b b>c", {"a>a": (BACK, 1, 0), "a>b": (EXIT, 0, 1), "b>b": (BACK, 1, 0)}),
}


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_has_a_kind_and_leaves_the_loops_that_do_not_contain_its_target(name: str) -> None:
    text, expected = EDGES[name]
    plan = plan_of(text)
    planned = {f"{edge.source}>{edge.target}": edge for one in plan.nodes.values() for edge in one.out}
    assert {key: (planned[key].kind, planned[key].shared, planned[key].leaves) for key in expected} == expected
    assert [edge.index for edge in sorted(planned.values(), key=lambda edge: edge.index)] == list(range(len(planned)))
    assert {key for key, edge in planned.items() if edge.closes} == {
        key for key, (kind, *_) in expected.items() if kind is BACK
    }


def test_a_loop_knows_its_nodes_its_exits_and_the_parts_of_a_round() -> None:
    plan = plan_of("s>o o>i i>k k>i k>e k>x k>o e>o e>x x>y s>y")
    outer, inner = plan.loops["o"], plan.loops["i"]
    assert list(plan.loops) == ["o", "i"]
    assert (outer.header, outer.parent, outer.body, outer.inner) == ("o", None, ("o", "i", "k", "e"), ("i",))
    assert (inner.header, inner.parent, inner.body, inner.inner) == ("i", "o", ("i", "k"), ())
    assert [f"{edge.source}>{edge.target}" for edge in outer.exits] == ["k>x", "e>x"]
    assert [f"{edge.source}>{edge.target}" for edge in inner.exits] == ["k>e", "k>o"]
    # Two BACK edges and the inner loop; one BACK edge.
    assert (outer.part_count, inner.part_count) == (3, 1)
    assert [plan.nodes[name].loops for name in "soikex"] == [(), ("o",), ("o", "i"), ("o", "i"), ("o",), ()]
    assert [name for name, one in plan.nodes.items() if one.is_header] == ["o", "i"]
    assert [name for name, one in plan.nodes.items() if one.back_edges] == ["o", "i"]
    assert [name for name, one in plan.nodes.items() if one.exits] == ["o", "i"]
    assert plan.leaves == ("y",)


def test_only_a_node_with_one_forward_entry_needs_no_barrier() -> None:
    plan = plan_of("s>h h>j j>h j>x x>y s>y h>z")
    assert [name for name, one in plan.nodes.items() if one.needs_barrier] == ["x", "y", "z"]
    # No edge enters the loop of `a` and `b`, and the run begins at `c`.
    assert plan_of("b>a a>b", "b a c").nodes["b"].needs_barrier


def test_only_a_node_that_says_so_goes_on_with_its_first_branch() -> None:
    first = {"join": {"mode": "any", "cancelOthers": True}}
    plan = plan_of("a>b a>c b>d c>d b>e c>e", d={"join": "any"}, e=first)
    assert [name for name, one in plan.nodes.items() if one.joins_any is True] == ["d", "e"]
    assert [name for name, one in plan.nodes.items() if one.cancels_others is True] == ["e"]


def test_an_id_may_sort_before_or_after_those_of_the_start_and_the_end() -> None:
    plan = plan_of("__start__>A A>b b>0 b>A 0>__end__ A>__end__", b={"type": "start", "config": {}})
    assert [edge.target for edge in plan.starts] == ["A"]
    assert [(name, [edge.target for edge in one.out]) for name, one in plan.nodes.items()] == [
        ("A", ["b"]),
        ("b", ["0", "A"]),
        ("0", []),
    ]
    assert [edge.target for edge in plan_of("A>b b>0").starts] == ["A"]
    assert [edge.target for edge in plan_of("A>b b>0", b={"type": "start", "config": {}}).starts] == ["A", "b"]


def test_a_join_by_any_with_several_entries_is_a_part_of_the_innermost_loop_around_its_entries() -> None:
    by_any = {"join": "any"}
    plan = plan_of("s>h h>a h>b a>j b>j j>h j>x h>x a>c c>c c>j", j=by_any, x=by_any, a=by_any)
    assert plan.loops["h"].any_joins == ("j",)
    assert plan.loops["c"].any_joins == ()
    # The BACK edge, the inner loop and the join.
    assert plan.loops["h"].part_count == 3
    assert plan_of("s>h h>a h>b a>j b>j j>h j>x", j=by_any).loops["h"].part_count == 2
    inner = plan_of("s>h h>a h>c a>b c>b b>b b>j j>h j>x", b=by_any)
    assert (inner.loops["h"].any_joins, inner.loops["b"].any_joins) == (("b",), ())
    assert not plan_of("s>h s>b b>h h>h h>x", h=by_any).loops["h"].any_joins


def test_a_header_is_entered_in_the_round_around_its_loop() -> None:
    plan = plan_of("s>o o>i i>i i>o i>x")
    assert plan.nodes["i"].first_round((3,)) == (3, 0)
    assert plan.nodes["i"].entry_round((3, 7)) == (3,)
    assert plan.nodes["x"].first_round(()) == plan.nodes["x"].entry_round(()) == ()
    assert plan.nodes["i"].entry_loops == ("o",)
    deep = plan_of("s>o o>i i>k k>k k>m m>k k>i i>o i>x").nodes
    assert (deep["k"].first_round((1, 2)), deep["k"].entry_round((1, 2, 3))) == ((1, 2, 0), (1, 2))
    assert (deep["k"].loops, deep["k"].entry_loops) == (("o", "i", "k"), ("o", "i"))
    loop = plan_of("s>h h>b b>h")
    assert loop.nodes["b"].entry_loops == ("h",)
    assert loop.nodes["b"].first_round((4,)) == loop.nodes["b"].entry_round((4,)) == (4,)


def test_a_token_carries_the_counters_of_the_loops_that_both_ends_share() -> None:
    plan = plan_of("s>o o>i i>k k>i k>e k>x e>o")
    rounds = {f"{edge.source}>{edge.target}": edge.round_at_target((5, 6)) for edge in plan.nodes["k"].out}
    assert rounds == {"k>i": (5, 6), "k>e": (5,), "k>x": ()}


STARTS: dict[str, tuple[str, str, dict[str, dict[str, Any]], list[str]]] = {
    "at the edges of __start__": ("__start__>b a>b b>c", "a b c", {}, ["b", "a"]),
    "at the nodes of type start": ("a>b b>c c>b", "a b c", {"b": {"type": "start", "config": {}}}, ["a", "b"]),
    "at the nodes that no edge enters": ("b>c a>c", "a b c", {}, ["a", "b"]),
    "at the first node if every node has an edge": ("b>a a>b", "b a", {}, ["b"]),
    "at a node beside a loop that no edge enters": ("b>a a>b", "b a c", {}, ["c"]),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_run_begins(name: str) -> None:
    text, order, fields, expected = STARTS[name]
    plan = plan_of(text, order, **fields)
    assert [edge.target for edge in plan.starts] == expected
    assert {edge.source for edge in plan.starts} == {"__start__"}
    implied = [edge for edge in plan.starts if edge.index >= len(text.split())]
    assert [edge.id for edge in implied] == [f"__start__->{edge.target}" for edge in implied]


@pytest.mark.parametrize("name", STARTS)
def test_only_the_first_node_of_a_graph_without_a_start_is_a_fallback(name: str) -> None:
    text, order, fields, _ = STARTS[name]
    spec = parse({"nodes": [node(one, **fields.get(one, {})) for one in order.split()], "edges": edges(text)})
    assert find_starts(spec).is_fallback == (name == "at the first node if every node has an edge")


def test_a_loop_that_no_edge_enters_has_its_first_node_as_header() -> None:
    assert list(plan_of("c>d d>c", "a d c").loops) == ["d"]


def test_an_edge_to_the_end_is_no_edge_of_the_plan() -> None:
    plan = plan_of("a>b b>__end__")
    assert plan.leaves == ("b",)
    assert plan.nodes["b"].out == ()


def nested(depth: int) -> str:
    """Return the edges of loops that are nested `depth` deep."""
    last = depth - 1
    return " ".join([*(f"n{i}>n{i + 1}" for i in range(last)), *(f"n{last}>n{i}" for i in range(depth))])


def test_loops_may_be_nested_twenty_deep() -> None:
    assert len(plan_of(nested(20)).loops) == 20
    with pytest.raises(PlanError) as refused:
        plan_of(nested(21))
    [problem] = refused.value.problems
    assert (problem.code, problem.node_id, problem.message) == (
        "LOOP_DEPTH",
        "n20",
        "loops are nested more than 20 deep",
    )


def test_every_loop_that_is_nested_too_deep_is_a_problem() -> None:
    back = " ".join(f"q>n{i}" for i in range(20))
    with pytest.raises(PlanError) as refused:
        plan_of(f"{' '.join(f'n{i}>n{i + 1}' for i in range(19))} n19>p p>p p>q q>q {back}")
    assert sorted(problem.node_id or "" for problem in refused.value.problems) == ["p", "q"]


def test_a_loop_with_two_entries_is_a_problem_at_the_first_of_them() -> None:
    with pytest.raises(PlanError, match="can be entered at 'a', 'b'") as refused:
        plan_of("s>b s>a a>b b>a")
    [problem] = refused.value.problems
    assert (problem.field, problem.code, problem.node_id) == ("edges", "LOOP_ENTRIES", "a")


COMPONENTS: dict[str, tuple[str, list[str]]] = {
    "no cycle": ("a>b b>c a>c", []),
    "a node with an edge to itself": ("a>a a>b", ["a"]),
    "two cycles that share a node": ("a>b b>a b>c c>b", ["abc"]),
    "two cycles with an edge between them": ("a>b b>a b>c c>d d>c", ["ab", "cd"]),
    "an edge to a component that is complete": ("a>b b>b a>c c>b c>a", ["ac", "b"]),
    "a cycle behind a cross edge": ("a>b a>c b>d d>b c>d", ["bd"]),
    "a long way back": ("a>b b>c c>d d>b d>a e>a", ["abcd"]),
    "a back edge past a node that is done": ("a>b b>c b>d d>a c>c", ["abd", "c"]),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_cycles_of_a_graph_are_found(name: str) -> None:
    text, expected = COMPONENTS[name]
    pairs = {(pair[0], pair[2]) for pair in text.split()}
    nodes = sorted({end for pair in pairs for end in pair})
    for order in (nodes, nodes[::-1]):
        found = strongly_connected(order, [*pairs, ("a", "unknown"), ("unknown", "a")])
        assert sorted("".join(sorted(component)) for component in found) == expected
