"""The pydantic models of the raw JSON of a spec, with all accepted names of its fields."""

from typing import Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from engine.problems import join_path
from engine.spec.model import MAX_VISITS, Concurrency, Join, OnError
from engine.states import OnLimit
from engine.types import JSON


class RawModel(BaseModel):
    """Base of the raw models.

    Types are strict; unknown fields are allowed, and reported as warnings.
    """

    model_config = ConfigDict(strict=True, extra="allow")


MAX_CODES = 100
"""Error codes that a retry policy may name."""


def _either(camel: str, snake: str) -> AliasChoices:
    return AliasChoices(camel, snake)


class RawRetry(RawModel):
    """The field `retry` of a node."""

    max_attempts: int = Field(3, ge=1, le=100, validation_alias=_either("maxAttempts", "max_attempts"))
    backoff_s: float = Field(
        1.0, ge=0, le=86400, allow_inf_nan=False, validation_alias=_either("backoffS", "backoff_s")
    )
    multiplier: float = Field(2.0, ge=1, le=100, allow_inf_nan=False)
    max_s: float = Field(60.0, ge=0, le=86400, allow_inf_nan=False, validation_alias=_either("maxS", "max_s"))
    on: list[str] = Field(default_factory=list, max_length=MAX_CODES)


class RawJoin(RawModel):
    """The field `join` of a node as an object. Unknown fields are an error."""

    model_config = ConfigDict(strict=True, extra="forbid")

    mode: Join = Field(strict=False)
    cancel_others: bool = Field(False, validation_alias=_either("cancelOthers", "cancel_others"))

    @model_validator(mode="after")
    def _only_any_cancels(self) -> Self:
        if self.cancel_others and self.mode is not Join.ANY:
            raise ValueError("`cancelOthers` needs the mode `any`: a join of all branches waits for each of them")
        return self


class RawNode(RawModel):
    """An item of `nodes`."""

    id: str
    type: str
    label: str | None = None
    config: dict[str, Any] | None = None
    position: dict[str, Any] | None = None
    x: float | None = None
    y: float | None = None
    retry: RawRetry | None = None
    timeout_s: float | None = Field(None, gt=0, le=31_536_000, validation_alias=_either("timeoutS", "timeout_s"))
    on_error: OnError = Field(OnError.FAIL, strict=False, validation_alias=_either("onError", "on_error"))
    join: RawJoin = Field(default_factory=lambda: RawJoin.model_validate({"mode": Join.ALL}))
    max_visits: int = Field(MAX_VISITS, ge=1, le=1_000_000, validation_alias=_either("maxVisits", "max_visits"))

    @field_validator("join", mode="before")
    @classmethod
    def _join_of_mode(cls, value: Any) -> Any:
        return {"mode": value} if isinstance(value, str) else value


class RawEdge(RawModel):
    """An item of `edges`."""

    id: str | None = None
    source: str
    target: str
    port: str | None = None
    condition: str | None = None
    label: str | None = None


class RawConcurrency(RawModel):
    """The field `concurrency` of a spec. Unknown fields are an error."""

    model_config = ConfigDict(strict=True, extra="forbid")

    limit: int = Field(ge=1, le=100_000)
    on_limit: OnLimit = Field(OnLimit.QUEUE, strict=False, validation_alias=_either("onLimit", "on_limit"))


class RawSpec(RawModel):
    """The fields of a spec except `nodes` and `edges`, which are validated item by item."""

    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    concurrency: RawConcurrency | None = None


REQUIRED: dict[type[RawModel], str] = {
    RawNode: "`id` and `type`",
    RawEdge: "`source` and `target`",
    RawSpec: "`nodes`",
}
EDGE_NAMES = frozenset(RawEdge.model_fields)
NODE_NAMES = {*RawNode.model_fields, "timeoutS", "onError", "maxVisits"}


def concurrency_of(raw: JSON) -> Concurrency | None:
    """Read the concurrency limit of a valid spec without parsing the rest of it."""
    value = raw.get("concurrency") if isinstance(raw, dict) else None
    return None if value is None else as_concurrency(RawConcurrency.model_validate(value))


def as_concurrency(raw: RawConcurrency | None) -> Concurrency | None:
    """Convert the raw model to the model of the engine."""
    return None if raw is None else Concurrency(raw.limit, raw.on_limit)


def error_path(base: str, location: tuple[str | int, ...], item: JSON) -> str:
    """Convert the location of an error of pydantic to a path.

    Args:
        base: The path of `item`.
        location: The location. pydantic adds the names of the members of a union; they are left
            out.
        item: The JSON that was validated.
    """
    parts: list[str | int] = []
    for index, part in enumerate(location):
        if _has(item, part):
            item = item[part]
        elif index < len(location) - 1 or not isinstance(item, dict):
            continue
        parts.append(part)
    return join_path(base, *parts)


def _has(item: JSON, part: str | int) -> bool:
    if isinstance(item, list):
        return isinstance(part, int) and part < len(item)
    return isinstance(item, dict) and part in item
