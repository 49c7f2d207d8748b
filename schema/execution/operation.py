"""One operation of a client: its cost and duration, reported in the log when it has ended.

A query or a mutation ends with its result, a subscription when its client or its run ends it.
"""

import time
from dataclasses import dataclass, field

import structlog
from strawberry.types import ExecutionContext

log = structlog.get_logger(__name__)


@dataclass
class OperationContext(ExecutionContext):
    """Strawberry's context of one operation, with its cost and its start."""

    cost: int | None = None
    """Points; None if the operation was refused before its cost was known."""
    began: float = field(default_factory=time.perf_counter)
    is_stream: bool = False
    """Whether the operation may have many results, so that its last result is not its end."""
    is_failed: bool = False
    """Whether a result of the operation had a top-level error."""

    def report(self) -> None:
        """Write the log line of the operation."""
        kind = None if self.graphql_document is None else self.operation_type.value
        log.debug(
            "request.done",
            operation=self.operation_name,
            type=kind,
            duration_ms=round((time.perf_counter() - self.began) * 1000, 1),
            cost=self.cost,
            caller=getattr(getattr(self.context, "caller", None), "subject", None),
            failed=self.is_failed,
        )
