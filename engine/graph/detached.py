"""Detach a nested LangGraph run, so that LangGraph does not treat it as a subgraph of the parent.

The agent loop and the items of a map run a graph inside a node. A context manager owns no durable
state, so a crash needs no cleanup here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core.runnables.config import var_child_runnable_config


@contextmanager
def detach() -> Iterator[None]:
    """Hide the surrounding graph from LangGraph inside the `with` block."""
    token = var_child_runnable_config.set(None)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
