"""The states of edges follow from node states: a plain count of every visit gives the same."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from engine.events import NodeState
from engine.graph.edge_states import SpecEdge, edge_states, edge_visits, edges_after
from engine.graph.routing import taken_edges
from engine.spec.model import OnError
from engine.states import EdgeStatus, NodeStatus

PORTS = st.sampled_from([None, "true", "false", "error"])
OUT = st.lists(st.tuples(PORTS, st.sampled_from([None, "condition"])), max_size=5).map(
    lambda edges: [SpecEdge(3 * n, f"e{n}", "a", "b", *edge) for n, edge in enumerate(edges)]
)


class Visit(NamedTuple):
    """A visit of a node: how it ends, and which conditions of its edges hold."""

    status: NodeStatus
    port: str | None
    holds: set[int]


VISITS = st.lists(
    st.builds(
        Visit,
        st.sampled_from([NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED]),
        PORTS,
        st.sets(st.sampled_from(range(0, 15, 3))),
    ),
    max_size=8,
)


def taken_by(out: list[SpecEdge], visit: Visit) -> set[int]:
    return taken_edges(out, visit.port, lambda edge: edge.index in visit.holds)  # type: ignore[arg-type]


@given(OUT, VISITS)
def test_every_visit_counts(out: list[SpecEdge], visits: list[Visit]) -> None:
    counts, number = dict.fromkeys([edge.index for edge in out], 0), 0
    state = NodeState("run_1", "a")
    for visit in visits:
        earlier = tuple(edge_visits(out, state, OnError.CONTINUE).values()) or None
        taken: set[int] = set()
        if visit.status is NodeStatus.SKIPPED:
            state = NodeState("run_1", "a", NodeStatus.SKIPPED, number, edges=earlier)
        else:
            number += 1
            running = NodeState("run_1", "a", NodeStatus.RUNNING, number, edges=earlier)
            assert {edge.status for edge in edge_states(out, running, OnError.CONTINUE)} <= {EdgeStatus.PENDING}
            taken = taken_by(out, visit)
            edges = edges_after(out, earlier, number, visit.port, taken)
            state = NodeState("run_1", "a", visit.status, number, port=visit.port, edges=edges)
        for index in taken:
            counts[index] += 1
        shown = edge_states(out, state, OnError.CONTINUE)
        assert [edge.visits for edge in shown] == [counts[edge.index] for edge in out]
        known = [edge for edge in shown if edge.status is not EdgeStatus.PENDING]
        assert {edge.edge_id for edge in known if edge.status is EdgeStatus.TAKEN} == {
            edge.id for edge in out if edge.index in taken
        }
        # Only a state without any port does not tell about edges with one.
        assert len(known) == len(out) or visit.port is None


def test_a_failure_that_ends_the_run_takes_no_edge() -> None:
    out = [SpecEdge(0, "e", "a", "b", None, None)]
    state = NodeState("run_1", "a", NodeStatus.FAILED, 1)
    assert [edge.status for edge in edge_states(out, state, OnError.FAIL)] == [EdgeStatus.SKIPPED]
    assert [edge.status for edge in edge_states(out, state, OnError.CONTINUE)] == [EdgeStatus.TAKEN]
