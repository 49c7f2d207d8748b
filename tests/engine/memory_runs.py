"""Execute a whole run in memory by the real executor."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.events import LogRecorded, NodeState, RunError
from engine.graph.compiler import compile_spec
from engine.nodes.registry import load_node_types
from engine.runtime.executor import RunExecutor
from engine.runtime.run_info import RunInfo
from engine.sdk.node_types import NodeTypes
from engine.spec.parser import parse
from engine.states import RunStatus
from engine.types import JSON
from tests.engine.checkpoint_history import RecordingHeadStore
from tests.engine.memory_ports import RecordedJournal

TYPES = load_node_types()


@dataclass(frozen=True, slots=True)
class EndedRun:
    """The result of a run, the last state of each node, and the lines of the log."""

    status: RunStatus | None
    output: Any
    error: RunError | None
    states: dict[str, NodeState]
    log_lines: list[LogRecorded]

    @property
    def logs(self) -> list[str]:
        return [line.message for line in self.log_lines]


async def run(
    spec: JSON, inputs: JSON = None, resources: Mapping[str, Any] | None = None, types: NodeTypes = TYPES
) -> EndedRun:
    saver, journal = RecordingHeadStore(), RecordedJournal()
    graph = compile_spec(parse(spec), types, saver)
    info = RunInfo("run_test", "prj_test", 1, 0, inputs)
    executor = RunExecutor(info, graph, journal=journal, head=saver, resources=resources or {})
    await asyncio.wait_for(executor.run(), 30)
    change = next((entry.change for entry in reversed(journal.entries) if entry.change), None)
    states = {state.node_id: state for state in journal.states}
    events = [event for entry in journal.entries for _, event in entry.events_to_write]
    lines = [event for event in events if isinstance(event, LogRecorded)]
    return EndedRun(executor.final_status, change and change.output, change and change.error, states, lines)
