"""Analytics events, and the base class of sinks that receive them (entry point `treadle.analytics`)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from engine.types import JSON


class AnalyticsEventType(StrEnum):
    """What an analytics event reports."""

    WORKFLOW_CREATED = "workflow_created"
    WORKFLOW_VERSION_PUBLISHED = "workflow_version_published"
    WORKFLOW_EXECUTED = "workflow_executed"


@dataclass(frozen=True, slots=True)
class AnalyticsEvent:
    """One event. Repeats have the same `id`.

    Attributes:
        id: A number that identifies the event.
        type: What it reports.
        project_id: The project in which it happened.
        at: When it happened.
        data: Ids and figures, as docs/analytics.md lists them; no inputs and no outputs.
    """

    id: int
    type: AnalyticsEventType
    project_id: str
    at: datetime
    data: dict[str, JSON]


class AnalyticsSink(ABC):
    """A system that receives analytics events. Subclasses set `name` and implement `send`.

    Workers create one instance each.
    """

    name: ClassVar[str]
    """Identifies the sink, also in the database: 1 to 50 letters, digits, `_` and `-`."""

    @abstractmethod
    async def send(self, events: Sequence[AnalyticsEvent]) -> None:
        """Deliver events, at least once each. If it raises, the same events come again later."""

    async def close(self) -> None:  # noqa: B027 - most sinks have no connections
        """Release connections. Called once at the end of the worker."""
