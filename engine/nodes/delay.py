"""`delay`: waits for a time or until a moment. The engine does the waiting; no worker is held up by it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from engine.errors import NodeFailure
from engine.expressions.lexer import has_code
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output, WaitUntil
from engine.types import JSON
from engine.values.timestamps import format_timestamp, parse_timestamp

T = TypeVar("T", float | str, str)
MAX_SECONDS = 3653 * 24 * 3600
"""Ten years."""


def _is_number(given: Any) -> Any:
    if isinstance(given, bool):
        raise ValueError("must be a number, or a template that gives one")
    return given


def _literal_seconds(given: float | str) -> float | str:
    return _checked(_after, given)


def _literal_moment(given: str) -> str:
    return _checked(_moment, given)


def _checked(read: Callable[[JSON], datetime], given: T) -> T:
    """What is no template is as right or wrong before a run as in it."""
    if not (isinstance(given, str) and has_code(given)):
        try:
            read(given)
        except NodeFailure as wrong:
            raise ValueError(wrong.message) from wrong
    return given


class DelayConfig(NodeConfig):
    """Exactly one of the two."""

    seconds: Annotated[float | str, BeforeValidator(_is_number), AfterValidator(_literal_seconds)] | None = Field(
        None,
        title="Seconds",
        description="How long to wait: a number, or a template that gives one.",
        examples=[30, "{{ input.pause }}"],
        json_schema_extra={"format": "template"},
    )
    until: Annotated[str, AfterValidator(_literal_moment)] | None = Field(
        None,
        title="Until",
        description="When to go on: RFC 3339, UTC where it names no zone; or a template that gives it.",
        examples=["2030-01-01T09:00:00Z", "{{ input.start }}"],
        json_schema_extra={"format": "template"},
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.seconds is None) == (self.until is None):
            raise ValueError("give either `seconds` or `until`")
        return self


class DelayNode(NodeType[DelayConfig]):
    name: ClassVar[str] = "delay"
    title: ClassVar[str] = "Delay"
    description: ClassVar[str] = "Waits for a number of seconds, or until a moment."
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
        given = ctx.render(config.seconds if config.until is None else config.until)
        ctx.note_input({"seconds" if config.until is None else "until": given})
        until = _after(given) if config.until is None else _moment(given)
        return WaitUntil(until, Output({"until": format_timestamp(until)}))


def _after(given: JSON) -> datetime:
    try:
        is_number = isinstance(given, int | float | str) and not isinstance(given, bool)
        seconds = float(given) if is_number else float("nan")
    except (ValueError, OverflowError):
        seconds = float("nan")
    if not isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise NodeFailure("CONFIG", f"`seconds` must give a number from 0 to {MAX_SECONDS}, not {_shown(given)}")
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _moment(given: JSON) -> datetime:
    try:
        moment = parse_timestamp(given).astimezone(UTC)
    except ValueError:
        raise NodeFailure("CONFIG", f"`until` must give a date and time (RFC 3339), not {_shown(given)}") from None
    except OverflowError:
        raise NodeFailure("CONFIG", f"`until` is out of range: {_shown(given)}") from None
    if moment > datetime.now(UTC) + timedelta(seconds=MAX_SECONDS):
        raise NodeFailure("CONFIG", f"`until` is more than ten years away: {_shown(given)}")
    return moment


def _shown(given: JSON) -> str:
    return repr(given)[:80]
