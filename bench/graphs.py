"""The measured graphs, as Treadle specs and as bare LangGraph graphs."""

import operator
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
