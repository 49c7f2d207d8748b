"""What a node sees while it runs: the names of its templates, and the ways to tell the world how it is getting on."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from engine.errors import NodeFailure, NotStorable
from engine.events import LogRecorded, Usage
from engine.expressions import evaluator
from engine.expressions.analysis import INDEX, ITEM, SECRETS
from engine.graph.channels import NodeRecord
from engine.runtime.reporter import Telling
from engine.runtime.run_info import MapItemScope, RunInfo
from engine.sdk.node import NodeType
from engine.states import LogLevel, NodeStatus
from engine.types import JSON
from engine.values.redaction import NO_SECRETS
from engine.values.storable import check_storable, clean_text, is_storable

NOT_RUN = {"output": None, "status": NodeStatus.IDLE.value}
NOTHING_ELSE: Mapping[str, Any] = {}
MAX_LOG = 10_000
"""Characters of one log line."""
LOG_LIMIT = 1000
"""Log lines one visit of a node may write; the last one says that there were more."""


def scope_of(
    run_id: str,
    inputs: JSON,
    slots: Mapping[str, NodeRecord],
    names: Iterable[str],
    around: Mapping[str, Any] = NOTHING_ELSE,
) -> dict[str, Any]:
    """The names that templates can use: `names` are the node ids worth offering, so that a big graph costs no more.

    `around` are those known from outside; a node of one's own hides another of the same id.
    """
    nodes = {name: _view(slots.get(name)) for name in names}
    outer = around.get("nodes", NOTHING_ELSE)
    return {**around, **nodes, "input": inputs, "run": {"id": run_id}, "nodes": {**outer, **nodes}}


def _view(slot: NodeRecord | None) -> dict[str, Any]:
    if slot is None:
        return NOT_RUN
    return {"output": slot.output, "status": slot.status.value}


class RunNodeContext:
    """The NodeContext of one visit. The report decides what of all that is told becomes an event, and when."""

    def __init__(
        self,
        info: RunInfo,
        node_id: str,
        visit: int,
        scope: Mapping[str, Any],
        resources: Mapping[str, Any],
        report: Telling,
        given_up: asyncio.Event | None = None,
        types: Mapping[str, NodeType[Any]] | None = None,
    ) -> None:
        """`given_up` is set once the run is to end, or its lease is lost: the node stops without keeping anything first."""
        self.info = info
        self.run_id, self.project_id, self.scopes = info.id, info.project_id, info.scopes
        self.node_id, self.visit, self.attempt = node_id, visit, 1
        self.inputs, self.resources, self.scope = info.inputs, resources, scope
        self.idempotency_key = f"{info.key}/{node_id}/{visit}"
        self.noted_input: JSON = None
        self.given_up = given_up
        self.types: Mapping[str, NodeType[Any]] = types or {}
        self._report = report
        self._redactor = NO_SECRETS
        if info.around is not None:
            self._redactor = info.around.redactor
            if info.around.secrets:
                self.scope = {**scope, SECRETS: info.around.secrets}
        self._text = self._redactor.stream()
        self._lines = 0

    def around(self, index: int, item: JSON) -> MapItemScope:
        """What an item of this node, which is a map, has around it."""
        names = {name: value for name, value in self.scope.items() if name != SECRETS}
        known = {**names, ITEM: item, INDEX: index}
        return MapItemScope(known, self.scope.get(SECRETS, {}), self._redactor, f"{self.idempotency_key}/{index}")

    def begin_attempt(self, number: int) -> None:
        self.attempt = number

    @contextmanager
    def knowing(self, secrets: Mapping[str, str]) -> Iterator[None]:
        """Inside of it the templates see secrets. From its beginning on nothing that is told shows one, however late."""
        before, self.scope = self.scope, {**self.scope, SECRETS: secrets}
        self._redactor = self._redactor.with_values(secrets.values())
        self._text = self._redactor.stream()
        try:
            yield
        finally:
            self.scope = before

    def hide(self, values: Iterable[str]) -> None:
        """From now on nothing that is told shows one of them."""
        self.settle()
        self._redactor = self._redactor.with_values(values)
        self._text = self._redactor.stream()

    def settle(self) -> None:
        """There is no more text to come: what was held back is shown."""
        self._show(self._text.flush())

    def redacted(self, value: JSON) -> JSON:
        """Storable JSON without secrets: for whatever leaves the node call."""
        return self._redactor.redact_value(value)

    def render(self, value: JSON) -> JSON:
        try:
            rendered = evaluator.render(value, self.scope)
            if isinstance(value, dict | list):
                # Many texts that give the same large value cost nothing, until somebody keeps them.
                check_storable(rendered)
        except evaluator.ExpressionError as error:
            raise NodeFailure("TEMPLATE", str(error)) from error
        except NotStorable as error:
            raise NodeFailure("TEMPLATE", f"the templates give too much: {error}") from error
        return rendered

    def evaluate(self, expression: str) -> JSON:
        try:
            return evaluator.evaluate(expression, self.scope)
        except evaluator.ExpressionError as error:
            raise NodeFailure("TEMPLATE", str(error)) from error

    def note_input(self, value: JSON) -> None:
        self.noted_input = self.redacted(value)

    def progress(self, fraction: float, message: str | None = None) -> None:
        told = None if message is None else self.redacted(clean_text(message))
        self._report.progress(min(max(fraction, 0.0), 1.0), told)

    def text(self, delta: str) -> None:
        self._show(self._text.push(clean_text(delta)))

    def _show(self, text: str) -> None:
        if text:
            self._report.text(text)

    def add_usage(self, usage: Usage) -> None:
        self._report.add_usage(replace(usage, model=self.redacted(usage.model)))

    def log(self, level: LogLevel, message: str, **fields: JSON) -> None:
        self._lines += 1
        if self._lines > LOG_LIMIT:
            return
        if self._lines == LOG_LIMIT:
            level, message, fields = LogLevel.WARNING, f"more than {LOG_LIMIT} lines: the rest is left out", {}
        kept = self.redacted(fields) if is_storable(fields) else {}
        record = LogRecorded(level, self.redacted(clean_text(message))[:MAX_LOG], self.node_id, kept)
        self._report.post(datetime.now(UTC), record)
