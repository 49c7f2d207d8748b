"""The measured graphs, as Treadle specs and as bare LangGraph graphs."""

import operator
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

Spec = dict[str, Any]


def node(name: str, before: str | None) -> dict[str, Any]:
    """Create a trivial node, which adds one to the output of the node `before`."""
    output = f"{{{{ {before}.output + 1 }}}}" if before else "{{ input.x }}"
    return {"id": name, "type": "transform", "config": {"output": output}}


def chain(length: int) -> Spec:
    """Create a chain of trivial nodes."""
    nodes = [node(f"n{i}", f"n{i - 1}" if i else None) for i in range(length)]
    return {"nodes": nodes, "edges": [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(length - 1)]}


def grid(width: int, depth: int) -> Spec:
    """Create `width` parallel chains of `depth` nodes, from one start node into one join."""
    nodes, edges = [node("s", None)], []
    for column in range(width):
        before = "s"
        for row in range(depth):
            name = f"c{column}_{row}"
            nodes.append(node(name, before))
            edges.append({"source": before, "target": name})
            before = name
        edges.append({"source": before, "target": "j"})
    nodes.append({"id": "j", "type": "transform", "config": {"output": f"{{{{ c0_{depth - 1}.output }}}}"}})
    return {"nodes": nodes, "edges": edges}


BLOCKS, BRANCHES, LOOP_ROUNDS, LOOP_NODES = 3, 3, 5, 5
"""Row 2b: blocks of three branches and a join, then a loop of five nodes, executed five times."""


def mixed(url: str) -> Spec:
    """Create a graph of 30 nodes: six http calls, three joins and a loop of five rounds."""
    nodes, edges = [node("s", None)], []
    before = "s"
    for block in range(BLOCKS):
        join = f"j{block}"
        for branch in range(BRANCHES):
            first, second = f"b{block}_{branch}", f"c{block}_{branch}"
            nodes += [_call(first, url) if branch < 2 else node(first, "s"), node(second, "s")]
            edges += _path(before, first, second, join)
        nodes.append(node(join, "s"))
        before = join
    names = [f"l{n}" for n in range(LOOP_NODES - 1)]
    nodes.append(_counter("l0"))
    nodes += [node(name, "l0") for name in names[1:]]
    nodes.append({"id": "again", "type": "conditional", "config": {"condition": f"l0.output < {LOOP_ROUNDS}"}})
    nodes += [node("e0", "l0"), node("e1", "e0"), node("e2", "e1")]
    edges += [*_path(before, *names, "again"), {"source": "again", "target": "l0", "port": "true"}]
    edges += [{"source": "again", "target": "e0", "port": "false"}, *_path("e0", "e1", "e2")]
    return {"nodes": nodes, "edges": edges}


def visits_of_mixed() -> int:
    """Return the number of visits in one run of `mixed`."""
    return 1 + BLOCKS * (2 * BRANCHES + 1) + LOOP_ROUNDS * LOOP_NODES + 3


def _call(name: str, url: str) -> dict[str, Any]:
    return {"id": name, "type": "http", "config": {"url": url}}


def _counter(name: str) -> dict[str, Any]:
    """Create a node that counts its visits."""
    output = f"{{{{ ({name}.last_output or 0) + 1 }}}}"
    return {"id": name, "type": "transform", "maxVisits": 100_000, "config": {"output": output}}


def _path(*names: str) -> list[dict[str, Any]]:
    return [{"source": source, "target": target} for source, target in pairwise(names)]


def counting_loop(rounds: int, *, body: int = 1, asks: bool = False) -> Spec:
    """Create a loop whose node `count` counts its visits.

    Args:
        rounds: The number of rounds.
        body: The number of nodes of a round, besides the condition.
        asks: Whether a question follows the loop.
    """
    names = [f"n{n}" for n in range(1, body)]
    more = {
        "id": "more",
        "type": "conditional",
        "maxVisits": 100_000,
        "config": {"condition": f"count.output < {rounds}"},
    }
    nodes = [_counter("count"), *({**node(name, "count"), "maxVisits": 100_000} for name in names), more]
    edges = [*_path("count", *names, "more"), {"source": "more", "target": "count", "port": "true"}]
    if asks:
        nodes += [{"id": "ask", "type": "human", "config": {"prompt": "Go on?"}}, node("last", "count")]
        edges += [{"source": "more", "target": "ask", "port": "false"}, *_path("ask", "last")]
    return {"nodes": nodes, "edges": edges}


def mapped(item: dict[str, Any], concurrency: int) -> Spec:
    """Create a map of one node over the numbers up to the input `count`."""
    config = {"items": "{{ range(input.count) }}", "concurrency": concurrency, "node": item}
    return {"nodes": [{"id": "m", "type": "map", "config": config}], "edges": []}


class State(TypedDict):
    x: Annotated[int, operator.add]


def bare_chain(length: int, saver: BaseCheckpointSaver[Any] | None = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Create the same chain as users of LangGraph write it."""
    graph = StateGraph(State)

    async def step(state: State) -> State:
        return {"x": 1}

    for i in range(length):
        graph.add_node(f"n{i}", step)
    graph.add_edge(START, "n0")
    for i in range(length - 1):
        graph.add_edge(f"n{i}", f"n{i + 1}")
    graph.add_edge(f"n{length - 1}", END)
    return graph.compile(checkpointer=saver)


class MixedState(TypedDict):
    x: Annotated[int, operator.add]
    rounds: Annotated[int, operator.add]


def bare_mixed(call: Callable[[], Awaitable[object]]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Create the graph of `mixed` as users of LangGraph write it. `call` makes one http call."""
    graph = StateGraph(MixedState)

    async def step(state: MixedState) -> dict[str, int]:
        return {"x": 1}

    async def request(state: MixedState) -> dict[str, int]:
        await call()
        return {"x": 1}

    async def count(state: MixedState) -> dict[str, int]:
        return {"rounds": 1}

    async def decide(state: MixedState) -> dict[str, int]:
        return {}

    graph.add_node("s", step)
    graph.add_edge(START, "s")
    before = "s"
    for block in range(BLOCKS):
        seconds = [f"c{block}_{branch}" for branch in range(BRANCHES)]
        for branch, second in enumerate(seconds):
            graph.add_node(f"b{block}_{branch}", request if branch < 2 else step)
            graph.add_node(second, step)
            graph.add_edge(before, f"b{block}_{branch}")
            graph.add_edge(f"b{block}_{branch}", second)
        before = f"j{block}"
        graph.add_node(before, step)
        graph.add_edge(seconds, before)
    names = [f"l{n}" for n in range(LOOP_NODES - 1)]
    for name in names:
        graph.add_node(name, count if name == "l0" else step)
    graph.add_node("again", decide)
    for name in ("e0", "e1", "e2"):
        graph.add_node(name, step)
    for source, target in pairwise([before, *names, "again"]):
        graph.add_edge(source, target)
    graph.add_conditional_edges("again", lambda state: "l0" if state["rounds"] < LOOP_ROUNDS else "e0", ["l0", "e0"])
    for source, target in pairwise(["e0", "e1", "e2", END]):
        graph.add_edge(source, target)
    return graph.compile()
