"""The port by which a node leaves, and the conditions, decide which edges are taken."""

import pytest

from engine.graph.plan import EdgeKind, PlanEdge
from engine.graph.routing import leaves_by, taken_edges
from engine.sdk.node import ERROR_PORT


@pytest.mark.parametrize(
    ("edge_port", "port", "is_taken"),
    [
        ("b", "b", True),
        ("b", "a", False),
        ("b", "c", False),
        ("b", None, False),
        (ERROR_PORT, ERROR_PORT, True),
        (ERROR_PORT, None, False),
        (None, None, True),
        (None, "b", True),
        (None, "a", True),
        (None, "z", True),
        (None, ERROR_PORT, False),
    ],
)
def test_an_edge_is_taken_by_its_own_port_and_one_without_a_port_by_all_but_error(
    edge_port: str | None, port: str | None, is_taken: bool
) -> None:
    assert leaves_by(edge_port, port) is is_taken


def test_the_condition_is_evaluated_only_for_an_edge_of_the_port_that_has_one() -> None:
    out = [edge(0, None, None), edge(1, None, "x"), edge(2, "b", "y"), edge(3, "c", "z"), edge(4, "b", None)]
    evaluated = []

    def holds(edge: PlanEdge) -> bool:
        evaluated.append(edge.condition)
        return edge.condition == "y"

    assert taken_edges(out, "b", holds) == {0, 2, 4}
    assert evaluated == ["x", "y"]


def edge(index: int, port: str | None, condition: str | None) -> PlanEdge:
    return PlanEdge(index, f"e{index}", "a", "b", port, condition, EdgeKind.FORWARD, 0)
