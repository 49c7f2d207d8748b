"""One operation of a client: its cost and duration, reported in log and metrics at its end.

A query or a mutation ends with its result, a subscription when its client or its run ends it.
"""

import time
from dataclasses import dataclass, field

import structlog
from graphql import FieldNode, get_operation_ast
from prometheus_client import Gauge
from strawberry.types import ExecutionContext
from strawberry.types.graphql import OperationType

from engine import tracing
from engine.metrics import GRAPHQL_OPERATIONS, GRAPHQL_SECONDS, SUBSCRIPTIONS

log = structlog.get_logger(__name__)


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
        """Log and count the operation."""
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
