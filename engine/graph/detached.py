"""Graphs that run within a node: an agent's, an item's of a map.

LangGraph would take such a graph for a part of that one whose wave runs the node, or has launched it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core.runnables.config import var_child_runnable_config


@contextmanager
def detach() -> Iterator[None]:
    """Inside of it LangGraph knows nothing of the graph around."""
    token = var_child_runnable_config.set(None)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
