"""What a node sees while it runs: the names of its templates, and the ways to tell the world how it is getting on."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from engine import expressions
from engine.channels import Slot
from engine.events import JSON, Happening, LogRecorded
from engine.nodes.base import NodeFailure
from engine.states import LogLevel, NodeStatus
from engine.told import clean_text, is_storable

NOT_RUN = {"output": None, "status": NodeStatus.IDLE.value}
MAX_LOG = 10_000
"""Characters of one log line."""
LOG_LIMIT = 1000
"""Log lines one visit of a node may write; the last one says that there were more."""


def scope_of(run_id: str, inputs: JSON, slots: Mapping[str, Slot], names: Iterable[str]) -> dict[str, Any]:
    """The names that templates can use: `names` are the node ids worth offering, so that a big graph costs no more."""
    nodes = {name: _view(slots.get(name)) for name in names}
    return {**nodes, "input": inputs, "run": {"id": run_id}, "nodes": nodes}


def _view(slot: Slot | None) -> dict[str, Any]:
    if slot is None:
        return NOT_RUN
    return {"output": slot.output, "status": slot.status.value}


class Context:
    """The NodeContext of one visit. `emit` takes what happened; the drive decides when it becomes durable."""

    def __init__(
        self,
        *,
        run_id: str,
        node_id: str,
        visit: int,
        lineage: int,
        inputs: JSON,
        scope: Mapping[str, Any],
        resources: Mapping[str, Any],
        emit: Callable[[datetime, Happening], None],
        on_progress: Callable[[float, str | None], None],
        on_text: Callable[[str], None],
        attempt: int = 1,
    ) -> None:
        self.run_id, self.node_id, self.visit, self.attempt = run_id, node_id, visit, attempt
        self.inputs, self.resources, self.scope = inputs, resources, scope
        self.idempotency_key = f"{run_id}/{lineage}/{node_id}/{visit}"
        self.noted_input: JSON = None
        self._emit, self._on_progress, self._on_text = emit, on_progress, on_text
        self._lines = 0

    def begin_attempt(self, number: int) -> None:
        self.attempt = number

    def render(self, value: JSON) -> JSON:
        try:
            return expressions.render(value, self.scope)
        except expressions.ExpressionError as error:
            raise NodeFailure("TEMPLATE", str(error)) from error

    def evaluate(self, expression: str) -> JSON:
        try:
            return expressions.evaluate(expression, self.scope)
        except expressions.ExpressionError as error:
            raise NodeFailure("TEMPLATE", str(error)) from error

    def note_input(self, value: JSON) -> None:
        self.noted_input = value

    def progress(self, fraction: float, message: str | None = None) -> None:
        self._on_progress(min(max(fraction, 0.0), 1.0), None if message is None else clean_text(message))

    def text(self, delta: str) -> None:
        self._on_text(clean_text(delta))

    def log(self, level: LogLevel, message: str, **fields: JSON) -> None:
        self._lines += 1
        if self._lines > LOG_LIMIT:
            return
        if self._lines == LOG_LIMIT:
            level, message, fields = LogLevel.WARNING, f"more than {LOG_LIMIT} lines: the rest is left out", {}
        self._emit(
            datetime.now(UTC),
            LogRecorded(level, clean_text(message[:MAX_LOG]), self.node_id, fields if is_storable(fields) else {}),
        )
