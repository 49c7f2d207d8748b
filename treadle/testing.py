"""Run one node type without a workflow, a database or a worker: for the tests of a package."""

from engine.events import LogRecorded, RunError
from engine.runtime.single_node import SingleNodeRun, try_node

__all__ = ["LogRecorded", "RunError", "SingleNodeRun", "try_node"]
