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
    """How the attempts of a node are repeated."""

    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        validation_alias=_either("maxAttempts", "max_attempts"),
        description="How often the node is tried, the first time included.",
    )
    backoff_s: float = Field(
        1.0,
        ge=0,
        le=86400,
        allow_inf_nan=False,
        validation_alias=_either("backoffS", "backoff_s"),
        description="Seconds to wait after the first attempt.",
    )
    multiplier: float = Field(
        2.0,
        ge=1,
        le=100,
        allow_inf_nan=False,
        description="How many times longer each pause is than the one before.",
    )
    max_s: float = Field(
        60.0,
        ge=0,
        le=86400,
        allow_inf_nan=False,
        validation_alias=_either("maxS", "max_s"),
        description="Seconds of the longest pause.",
    )
    on: list[str] = Field(
        default_factory=list,
        max_length=MAX_CODES,
        description="The codes of errors after which the node is tried again. Without codes: every retryable error.",
    )


class RawJoin(RawModel):
    """When a node with several incoming edges runs, and what happens to the other branches."""

    model_config = ConfigDict(strict=True, extra="forbid")

    mode: Join = Field(strict=False, description="`all`: after every edge. `any`: after the first edge that is taken.")
    cancel_others: bool = Field(
        False,
        validation_alias=_either("cancelOthers", "cancel_others"),
        description="With the mode `any`: whether the branches that lead only here are cancelled.",
    )

    @model_validator(mode="after")
    def _only_any_cancels(self) -> Self:
        if self.cancel_others and self.mode is not Join.ANY:
            raise ValueError("`cancelOthers` needs the mode `any`: a join of all branches waits for each of them")
        return self


class RawNode(RawModel):
    """An item of `nodes`."""

    id: str = Field(description="Unique in the spec. Templates use it as the name of the node.")
    type: str = Field(description="The name of a node type.")
    label: str | None = Field(None, description="The name for people.")
    config: dict[str, Any] | None = Field(None, description="The fields of the node type.")
    position: dict[str, Any] | None = Field(None, description="Where a builder draws the node: `{x, y}`.")
    x: float | None = Field(None, description="Instead of `position`.")
    y: float | None = Field(None, description="Instead of `position`.")
    retry: RawRetry | None = None
    timeout_s: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        validation_alias=_either("timeoutS", "timeout_s"),
        description="Seconds that one attempt may take.",
    )
    on_error: OnError = Field(
        OnError.FAIL,
        strict=False,
        validation_alias=_either("onError", "on_error"),
        description="What a failure does. `fail`: the run fails. `continue`: the output is null and the run goes on. "
        "`branch`: the run goes on by the port `error`.",
    )
    join: RawJoin = Field(
        default_factory=lambda: RawJoin.model_validate({"mode": Join.ALL}),
        description="When a node with several incoming edges runs.",
    )
    max_visits: int = Field(
        MAX_VISITS,
        ge=1,
        le=1_000_000,
        validation_alias=_either("maxVisits", "max_visits"),
        description="How many times a loop may visit the node. One more visit fails the run.",
    )

    @field_validator("join", mode="before")
    @classmethod
    def _join_of_mode(cls, value: Any) -> Any:
        return {"mode": value} if isinstance(value, str) else value


class RawEdge(RawModel):
    """An item of `edges`."""

    id: str | None = Field(None, description="Unique in the spec. Without it, the edge gets one.")
    source: str = Field(description="The id of a node, or `__start__`.")
    target: str = Field(description="The id of a node, or `__end__`.")
    port: str | None = Field(
        None, description="The port of the source. Without it, the edge leaves by every port except `error`."
    )
    condition: str | None = Field(None, description="An expression. The edge is taken if it is true.")
    label: str | None = Field(None, description="The name for people.")


class RawConcurrency(RawModel):
    """How many runs of the workflow may be active at once."""

    model_config = ConfigDict(strict=True, extra="forbid")

    limit: int = Field(ge=1, le=100_000, description="The number of runs.")
    on_limit: OnLimit = Field(
        OnLimit.QUEUE,
        strict=False,
        validation_alias=_either("onLimit", "on_limit"),
        description="What happens to one more run. `queue`: it waits. `reject`: it is refused. "
        "`cancelOldest`: the oldest run is cancelled.",
    )


class RawSpec(RawModel):
    """The fields of a spec except `nodes` and `edges`, which are validated item by item."""

    inputs: dict[str, Any] | None = Field(
        default=None,
        description="A JSON Schema (2020-12) that the input of a run must fit. Without it, every input is accepted.",
    )
    outputs: dict[str, Any] | None = Field(
        default=None, description="Templates by name, which make the output of the run."
    )
    concurrency: RawConcurrency | None = None


REQUIRED: dict[type[RawModel], str] = {
    RawNode: "`id` and `type`",
    RawEdge: "`source` and `target`",
    RawSpec: "`nodes`",
}
EDGE_NAMES = frozenset(RawEdge.model_fields)
NODE_NAMES = {*RawNode.model_fields, "timeoutS", "onError", "maxVisits"}
RETRY_NAMES = {*RawRetry.model_fields, "maxAttempts", "backoffS", "maxS"}


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
