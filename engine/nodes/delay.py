"""The node type `delay`: waits for a number of seconds, or until a time.

The wait is a row in the database, so it survives crashes and occupies no worker.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from engine.errors import NodeFailure
from engine.expressions.lexer import has_code
from engine.sdk.annotations import STORED_TEMPLATE
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output, WaitUntil
from engine.types import JSON
from engine.values.kinds import quoted_json
from engine.values.timestamps import format_timestamp, parse_timestamp

ValueT = TypeVar("ValueT", float | str, str)
MAX_SECONDS = 3653 * 24 * 3600
"""Ten years."""


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, or a template that gives one")
    return value


def _check_seconds(value: float | str) -> float | str:
    return _check_literal(_time_after, value)


def _check_time(value: str) -> str:
    return _check_literal(_parse_time, value)


def _check_literal(parse: Callable[[JSON], datetime], value: ValueT) -> ValueT:
    """Parse a value that is no template, so that validation reports what a run would."""
    if not (isinstance(value, str) and has_code(value)):
        try:
            parse(value)
        except NodeFailure as failure:
            raise ValueError(failure.message) from failure
    return value


class DelayConfig(NodeConfig):
    """The config of a `delay`. Exactly one of the two fields is set."""

    seconds: Annotated[float | str, BeforeValidator(_refuse_bool), AfterValidator(_check_seconds)] | None = Field(
        None,
        title="Seconds",
        description="Seconds to wait: a number, or a template that gives one.",
        examples=[30, "{{ input.pause }}"],
        json_schema_extra=STORED_TEMPLATE,
    )
    until: Annotated[str, AfterValidator(_check_time)] | None = Field(
        None,
        title="Until",
        description="Time at which the run continues: RFC 3339, UTC if it has no zone; or a template that gives it.",
        examples=["2030-01-01T09:00:00Z", "{{ input.start }}"],
        json_schema_extra=STORED_TEMPLATE,
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.seconds is None) == (self.until is None):
            raise ValueError("give either `seconds` or `until`")
        return self


class DelayNode(NodeType[DelayConfig]):
    """Returns a wait until a time, and that time as its output."""

    name: ClassVar[str] = "delay"
    title: ClassVar[str] = "Delay"
    description: ClassVar[str] = "Waits for a number of seconds, or until a time."
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "clock"
    Config: ClassVar[type[NodeConfig]] = DelayConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"until": {"type": "string", "format": "date-time"}},
        "required": ["until"],
    }
    example: ClassVar[dict[str, Any]] = {"seconds": 30}
    waits: ClassVar[bool] = True

    async def execute(self, config: DelayConfig, ctx: NodeContext) -> WaitUntil:
        value = ctx.render(config.seconds if config.until is None else config.until)
        ctx.note_input({"seconds" if config.until is None else "until": value})
        until = _time_after(value) if config.until is None else _parse_time(value)
        return WaitUntil(until, Output({"until": format_timestamp(until)}))


def _time_after(value: JSON) -> datetime:
    """Return the time in this number of seconds. Raises NodeFailure(CONFIG)."""
    try:
        is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
        seconds = float(value) if is_number else float("nan")
    except (ValueError, OverflowError):
        seconds = float("nan")
    if not isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise NodeFailure("CONFIG", f"`seconds` must give a number from 0 to {MAX_SECONDS}, not {quoted_json(value)}")
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _parse_time(value: JSON) -> datetime:
    """Parse a time in RFC 3339. Raises NodeFailure(CONFIG)."""
    try:
        time = parse_timestamp(value).astimezone(UTC)
    except ValueError:
        raise NodeFailure("CONFIG", f"`until` must give a date and time (RFC 3339), not {quoted_json(value)}") from None
    except OverflowError:
        raise NodeFailure("CONFIG", f"`until` is out of range: {quoted_json(value)}") from None
    if time > datetime.now(UTC) + timedelta(seconds=MAX_SECONDS):
        raise NodeFailure("CONFIG", f"`until` is more than ten years from now: {quoted_json(value)}")
    return time
