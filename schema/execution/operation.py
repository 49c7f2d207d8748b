"""One operation of a client: its cost and duration, reported in log and metrics at its end.

A query or a mutation ends with its result, a subscription when its client or its run ends it.
"""

import time
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import structlog
from graphql import FieldNode, get_operation_ast
from prometheus_client import Gauge
from strawberry.types import ExecutionContext
from strawberry.types.graphql import OperationType

from engine import tracing
from engine.metrics import GRAPHQL_OPERATIONS, GRAPHQL_SECONDS, SUBSCRIPTIONS
from resolvers.policy import OperationPolicy

log = structlog.get_logger(__name__)


operation_extensions: ContextVar[dict[str, Any] | None] = ContextVar("operation_extensions", default=None)
"""The member `extensions` of the operation of a socket, in the task that executes it."""


@dataclass
class OperationContext(ExecutionContext):
    """Strawberry's context of one operation, with its cost and its start."""

    cost: int | None = None
    """Points; None if the operation was refused before its cost was known."""
    began: float = field(default_factory=time.perf_counter)
    is_stream: bool = False
    """Whether the operation may have many results, so that its last result is not its end."""
    subscription: Gauge | None = None
    """The metric that counts the open subscription."""
    is_failed: bool = False
    """Whether a result of the operation had a top-level error."""

    held: ExitStack = field(default_factory=ExitStack)
    """What the operation holds until it has ended."""

    @property
    def wants_cost(self) -> bool:
        """Whether the client asks for `extensions.cost`."""
        extensions = self.operation_extensions or operation_extensions.get() or {}
        return extensions.get("cost") is True

    @property
    def policy(self) -> OperationPolicy:
        """The policy of the server; the default for an operation without a context, as in tests."""
        return getattr(self.context, "policy", None) or OperationPolicy()

    async def take_price(self, points: int) -> None:
        """Take the price of the operation from the rate limits of its caller. Raises Limit."""
        caller, rates = getattr(self.context, "caller", None), self.policy.rates
        if rates is not None and caller is not None:
            await rates.take(caller, points)

    def hold_subscription(self) -> None:
        """Count the operation as a subscription of its caller until it has ended. Raises Limit."""
        caller = getattr(self.context, "caller", None)
        if caller is not None:
            self.held.enter_context(self.policy.subscriptions.hold(caller.subject))

    def begin(self) -> None:
        """Count a subscription as open. `report` ends it."""
        if self.operation_type is OperationType.SUBSCRIPTION:
            self.subscription = SUBSCRIPTIONS.labels(self.field_name)
            self.subscription.inc()

    @property
    def field_name(self) -> str:
        """The first root field, which the schema names; empty for a fragment or a refused operation."""
        if self.graphql_document is None:
            return ""
        operation = get_operation_ast(self.graphql_document, self.operation_name)
        first = None if operation is None else operation.selection_set.selections[0]
        return first.name.value if isinstance(first, FieldNode) else ""

    def describe_span(self) -> None:
        """Name the span of the operation, and note whether it has failed."""
        if (span := tracing.current_span()) is not None and self.graphql_document is not None:
            kind, name = self.operation_type.value, self.operation_name
            span.update_name(f"{kind} {self.field_name}")
            span.set_attributes({"graphql.operation.type": kind, **({"graphql.operation.name": name} if name else {})})
            tracing.end_with(span, "GRAPHQL" if self.is_failed else None)

    def report(self) -> None:
        """Log and count the operation, and release what it holds."""
        self.held.close()
        self.describe_span()
        seconds = time.perf_counter() - self.began
        kind = None if self.graphql_document is None else self.operation_type.value
        GRAPHQL_OPERATIONS.labels(kind or "", self.field_name, "error" if self.is_failed else "ok").inc()
        if self.subscription is not None:
            self.subscription.dec()
        else:
            GRAPHQL_SECONDS.labels(kind or "").observe(seconds)
        log.debug(
            "request.done",
            operation=self.operation_name,
            type=kind,
            duration_ms=round(seconds * 1000, 1),
            cost=self.cost,
            caller=getattr(getattr(self.context, "caller", None), "subject", None),
            failed=self.is_failed,
        )
