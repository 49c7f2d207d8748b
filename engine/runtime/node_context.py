"""The context of one visit of a node: the scope of its templates, and its redacted reports.

A context lives as long as its visit. Nothing in it is durable: the reporter decides what becomes an
event. Every text, value and error passes the redactor before it leaves the context.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from engine.errors import NodeFailure, NodeInterrupted, NotStorable
from engine.events import LogRecorded, Usage
from engine.expressions import evaluator
from engine.expressions.analysis import INDEX, ITEM, SECRETS
from engine.graph.channels import NodeRecord
from engine.runtime.reporter import Reporter
from engine.runtime.run_info import MapItemScope, RunInfo
from engine.sdk.node import NodeType
from engine.sdk.resources import CallbackAddresses
from engine.spec.callbacks import CALLBACK_URL
from engine.states import WITHOUT_OUTPUT, LogLevel, NodeStatus
from engine.types import JSON
from engine.values.large_values import off_loop
from engine.values.redaction import NO_SECRETS, Redactor
from engine.values.secret_results import TooManyResults
from engine.values.storable import check_storable, clean_text, is_storable

NO_NAMES: Mapping[str, Any] = {}
MAX_LOG = 10_000
"""The number of characters of one log record."""
MAX_REASON = 100
"""The number of characters of a finish reason."""
LOG_LIMIT = 1000
"""The number of log records of an attempt: once of those below WARNING, and once of the others.

So the lines of many calls leave room for warnings. The last one says that the rest is left out.
"""


def scope_of(
    run_id: str,
    inputs: JSON,
    records: Mapping[str, NodeRecord],
    names: Iterable[str],
    outer: Mapping[str, Any] = NO_NAMES,
) -> dict[str, Any]:
    """Build the scope of templates: the values that they see by name.

    Args:
        run_id: The id of the run.
        inputs: The input of the run.
        records: The node records of the run.
        names: The ids of the nodes in the scope. Only referenced nodes belong here, so that a large
            graph costs no more than a small one.
        outer: The names from outside the run, for an item of a map. A node of the run hides an
            outer node with the same id.
    """
    nodes = {name: _view(records.get(name)) for name in names}
    outer_nodes = outer.get("nodes", NO_NAMES)
    return {**outer, **nodes, "input": inputs, "run": {"id": run_id}, "nodes": {**outer_nodes, **nodes}}


def node_scope(status: NodeStatus, last_output: JSON) -> dict[str, Any]:
    """Return what templates see of a node.

    Args:
        status: The status of the node.
        last_output: The output of its latest visit that has ended. Its `output` is the same, except
            while the node is SKIPPED or CANCELLED.
    """
    output = None if status in WITHOUT_OUTPUT else last_output
    return {"output": output, "status": status.value, "last_output": last_output}


def _view(record: NodeRecord | None) -> dict[str, Any]:
    return NOT_RUN if record is None else node_scope(record.status, record.output)


NOT_RUN = node_scope(NodeStatus.IDLE, None)
"""The value in templates of a node that has not run."""


class RunNodeContext:
    """The NodeContext of one visit."""

    def __init__(
        self,
        info: RunInfo,
        node_id: str,
        visit: int,
        scope: Mapping[str, Any],
        resources: Mapping[str, Any],
        reporter: Reporter,
        abandoned: asyncio.Event | None = None,
        types: Mapping[str, NodeType[Any]] | None = None,
        stopping: asyncio.Event | None = None,
    ) -> None:
        """Create the context of a visit.

        Args:
            info: The run.
            node_id: The id of the node.
            visit: The number of the visit, from 1.
            scope: The values that templates see.
            resources: The resources of the process by name.
            reporter: Receives all reports.
            abandoned: Set when the run ends or its lease is lost. Then the node must stop without
                storing results first.
            types: The node types of this installation by name, for a node with nested nodes.
            stopping: Set when the run pauses or is released. Then a node of many parts begins no
                further part.
        """
        self.info = info
        self.run_id, self.project_id, self.scopes = info.id, info.project_id, info.scopes
        self.thread_key = info.thread_key
        self.node_id, self.visit, self.attempt = node_id, visit, 1
        self.inputs, self.resources, self.scope = info.inputs, resources, scope
        self.idempotency_key = f"{info.key}/{node_id}/{visit}"
        self.noted_input: JSON = None
        self.abandoned = abandoned
        self.stopping = stopping or asyncio.Event()
        self.types: Mapping[str, NodeType[Any]] = types or {}
        self._reporter = reporter
        self._redactor = NO_SECRETS
        if info.item_scope is not None:
            self._redactor = info.item_scope.redactor
            if info.item_scope.secrets:
                self.scope = {**scope, SECRETS: info.item_scope.secrets}
        self._text, self._thinking = self._redactor.stream(), self._redactor.stream()
        self._log_counts = [0, 0]
        self.callback_visits: Mapping[str, int] = {}
        """The nodes whose callback address templates may read, with the visit that it is for."""

    def add_callback_addresses(self, callback: str | None) -> None:
        """Let templates read callback addresses; that of the node `callback` as `callback_url`.

        Raises NodeFailure if this host cannot make them.
        """
        addresses: CallbackAddresses | None = self.resources.get("callbacks")
        if addresses is None:
            return
        urls = {name: addresses.address(self.run_id, name, visit) for name, visit in self.callback_visits.items()}
        views = {name: {**self.scope["nodes"].get(name, NOT_RUN), CALLBACK_URL: url} for name, url in urls.items()}
        own = {} if callback is None else {CALLBACK_URL: urls[callback]}
        self.scope = {**own, **self.scope, **views, "nodes": {**self.scope["nodes"], **views}}

    def item_scope(self, index: int, item: JSON) -> MapItemScope:
        """Return the scope for one item of this node, which is a map."""
        names = {name: value for name, value in self.scope.items() if name != SECRETS}
        item_names = {**names, ITEM: item, INDEX: index}
        key = f"{self.idempotency_key}/{index}"
        return MapItemScope(item_names, self.scope.get(SECRETS, {}), self._redactor, key)

    def begin_attempt(self, number: int) -> None:
        self.attempt = number

    def end_attempt(self) -> None:
        self._reporter.end_attempt()

    @contextmanager
    def with_secrets(self, secrets: Mapping[str, str]) -> Iterator[None]:
        """Let templates see secrets inside the `with` block.

        The redactor masks them from now on and never stops, because a node may report late.
        """
        before, self.scope = self.scope, {**self.scope, SECRETS: secrets}
        self._use(self._redactor.with_values(secrets.values()))
        try:
            yield
        finally:
            self.scope = before

    def hide(self, values: Iterable[str]) -> None:
        self._use(self._redactor.with_values(values))

    def _use(self, redactor: Redactor) -> None:
        if redactor is not self._redactor:
            self.flush_text()
            self._redactor = redactor
            self._text, self._thinking = redactor.stream(), redactor.stream()

    def flush_text(self) -> None:
        """Report the end of the streamed text, which was delayed in case it begins a secret."""
        self._report_thinking(self._thinking.flush())
        self._report_text(self._text.flush())

    def redact(self, value: JSON) -> JSON:
        """Mask all secrets in a value. Everything that leaves the node call passes here."""
        return off_loop(self._redactor.redact_value, value, self._redactor.weight)

    def render(self, value: JSON, names: Mapping[str, JSON] | None = None) -> JSON:
        scope = {**names, **self.scope} if names else self.scope
        with self._evaluation() as secret_results:
            rendered = evaluator.render(value, scope, secret_results)
            self._hide_results(secret_results)
            if isinstance(value, dict | list):
                # Many texts that share one large value cost nothing until the result is stored.
                off_loop(check_storable, rendered)
        return rendered

    def evaluate(self, expression: str) -> JSON:
        with self._evaluation() as secret_results:
            result = evaluator.evaluate(expression, self.scope, secret_results)
            self._hide_results(secret_results)
        return result

    @contextmanager
    def _evaluation(self) -> Iterator[list[JSON] | None]:
        """Give the list for the results of expressions that name secrets; convert exceptions."""
        try:
            yield [] if SECRETS in self.scope else None
        except (evaluator.ExpressionError, TooManyResults) as error:
            raise NodeFailure("TEMPLATE", str(error)) from error
        except NotStorable as error:
            raise NodeFailure("TEMPLATE", f"the result of the templates cannot be stored: {error}") from error

    def _hide_results(self, results: list[JSON] | None) -> None:
        """Hide what expressions with secrets gave, from now on and until the end of the visit."""
        if results:
            self._use(self._redactor.with_results(results))

    async def pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
            raise NodeInterrupted

    def note_input(self, value: JSON) -> None:
        self.noted_input = off_loop(self._redactor.redact_input, value, self._redactor.weight)

    def progress(self, fraction: float, message: str | None = None) -> None:
        clean_message = None if message is None else self.redact(clean_text(message))
        self._reporter.progress(min(max(fraction, 0.0), 1.0), clean_message)

    def text(self, delta: str) -> None:
        self._report_text(self._text.push(clean_text(delta)))

    def _report_text(self, text: str) -> None:
        if text:
            self._reporter.text(text)

    def thinking(self, delta: str) -> None:
        self._report_thinking(self._thinking.push(clean_text(delta)))

    def _report_thinking(self, text: str) -> None:
        if text:
            self._reporter.thinking(text)

    def finish_reason(self, reason: str | None) -> None:
        clean = None if reason is None else self.redact(clean_text(reason))[:MAX_REASON]
        self._reporter.finish_reason(clean)

    def add_usage(self, usage: Usage) -> None:
        usage.check()
        self._reporter.add_usage(replace(usage, model=self.redact(usage.model)))

    def log(self, level: LogLevel, message: str, **fields: JSON) -> None:
        is_high = level in (LogLevel.WARNING, LogLevel.ERROR)
        self._log_counts[is_high] += 1
        if self._log_counts[is_high] > LOG_LIMIT:
            return
        if self._log_counts[is_high] == LOG_LIMIT:
            kind = "warnings and errors" if is_high else "lines below WARNING"
            level, message, fields = LogLevel.WARNING, f"more than {LOG_LIMIT} {kind}: the rest is left out", {}
        clean_fields = self.redact(fields) if is_storable(fields) else {}
        record = LogRecorded(level, self.redact(clean_text(message))[:MAX_LOG], self.node_id, clean_fields)
        self._reporter.post(datetime.now(UTC), record)
