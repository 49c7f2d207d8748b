"""The API for authors of trigger kinds: TriggerKind and the base of its config model.

Packages add kinds by the entry point `treadle.triggers`. The built-in kinds use the same classes.
This module stores nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from engine.types import JSON

OnMissed = Literal["skip", "last", "all"]
"""What happens to planned times that passed while no worker was running."""
Overlap = Literal["allow", "skip", "queue"]
"""What happens at a firing while a run of the trigger is active."""


class ConfigConflict(NamedTuple):
    """What is wrong between fields that are valid by themselves.

    `message` is a sentence about the fields.
    """

    fields: tuple[str, ...]
    message: str


class TriggerConfig(BaseModel):
    """Base of the config models of trigger kinds. Unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def conflicts(self) -> Iterable[ConfigConflict]:
        """Find what is wrong between the fields. All of it is reported, with what is wrong in fields."""
        return ()

    @model_validator(mode="after")
    def _check_conflicts(self) -> Self:
        if found := [_error_of(conflict) for conflict in self.conflicts()]:
            raise ValidationError.from_exception_data(type(self).__name__, found)
        return self


def _error_of(conflict: ConfigConflict) -> InitErrorDetails:
    context = {"text": conflict.message, "fields": conflict.fields}
    return InitErrorDetails(type=PydanticCustomError("value_error", "{text}", context), input=None)


class PolledItem(NamedTuple):
    """A firing that a poll has found: its deduplication key and its event."""

    key: str
    event: JSON


class PollResult(NamedTuple):
    """What a poll has found, and the position in the source behind it.

    `acknowledge` is called after the transaction that stores both. If it fails, or never comes, the
    source returns the items again, and they are duplicates. With `has_more` the next poll follows at once.
    """

    items: tuple[PolledItem, ...]
    state: JSON
    acknowledge: Callable[[], Awaitable[None]] | None = None
    has_more: bool = False


class StreamSource(NamedTuple):
    """A stream, and the consumer of a group that reads it."""

    url: str
    stream: str
    group: str
    consumer: str


class StreamEntry(NamedTuple):
    """An entry of a stream."""

    id: str
    fields: dict[str, JSON]


class StreamEntries(NamedTuple):
    """Entries that were read, the ids to acknowledge, and the position behind them."""

    entries: list[StreamEntry]
    ids: list[str]
    position: str


class Streams(Protocol):
    """Reads streams by consumer groups. Both methods raise PollFailed."""

    async def read(
        self, source: StreamSource, position: str | None, *, from_start: bool, count: int, claim_idle_s: int
    ) -> StreamEntries: ...

    async def acknowledge(self, source: StreamSource, ids: Sequence[str]) -> None: ...


class PollFailed(Exception):
    """The source cannot be read. The message says why, without credentials."""


@dataclass(frozen=True, slots=True)
class PollContext:
    """What a poll uses.

    Attributes:
        now: The present time, by the clock of the database.
        http: Makes HTTP clients that connect to allowed addresses only.
        secret: Returns the value of a secret of the project. Raises NodeFailure if there is none.
        trigger_id: The id of the trigger.
        streams: Reads streams of Redis servers.
    """

    now: datetime
    trigger_id: str
    http: Any
    streams: Streams
    secret: Callable[[str], Awaitable[str]]


ConfigT = TypeVar("ConfigT", bound=TriggerConfig)


class TriggerKind(Generic[ConfigT]):
    """One kind of trigger.

    A kind that fires by the clock overrides `next_time`; `event` makes the value that the templates
    in the trigger's `inputs` see.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    Config: ClassVar[type[TriggerConfig]]
    event_schema: ClassVar[dict[str, Any]] = {"type": "object"}
    """JSON Schema of `event`."""
    example: ClassVar[dict[str, Any]] = {}
    """A valid config."""
    is_scheduled: ClassVar[bool] = False
    """Whether it fires by the clock: it has planned times."""

    is_polled: ClassVar[bool] = False
    """Whether it asks a source at its planned times, by `poll`."""

    async def poll(self, config: ConfigT, state: JSON, context: PollContext) -> PollResult:
        """Ask the source for what is new. It is repeated if its result was not stored.

        Args:
            config: The config.
            state: The position after the last poll; None before the first one, and after a change of
                the config.
            context: What the poll uses.

        Raises:
            PollFailed: The source cannot be read. The trigger backs off, and is disabled after a number
                of failures.
        """
        raise PollFailed(f"the kind {self.name!r} cannot be polled")

    def first_time(self, config: ConfigT, now: datetime) -> datetime | None:
        """Return the first planned time of a trigger that is created, enabled or changed now."""
        return self.next_time(config, now)

    def next_time(self, config: ConfigT, after: datetime) -> datetime | None:
        """Return the first planned time after a moment, in UTC; None if there is none.

        Raises:
            ValueError: The config can no longer be used, for example because its time zone does not
                exist any more.
        """
        return None

    def last_time(self, config: ConfigT, until: datetime) -> datetime | None:
        """Return the last planned time that is not after `until`, in UTC; None if there is none.

        Raises ValueError as `next_time` does.
        """
        return None

    def on_missed(self, config: ConfigT) -> OnMissed:
        """Return what happens to planned times that passed without a worker."""
        return "last"

    def overlap(self, config: ConfigT) -> Overlap:
        """Return what happens at a firing while a run of the trigger is active."""
        return "allow"

    def delayed(self, config: ConfigT, trigger_id: str, planned: datetime) -> datetime:
        """Return when the trigger fires for a planned time: the time itself, or later by jitter."""
        return planned

    def event(self, config: ConfigT, planned: datetime) -> dict[str, JSON]:
        """Return the event of a planned time."""
        return {}
