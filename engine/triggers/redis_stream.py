"""The trigger kind `redis_stream`: fires for the entries of a stream of Redis, by a consumer group.

An entry is acknowledged after the transaction that accepts its run. The `state` of the trigger is the
position behind the last accepted entry: it recreates the group if Redis has lost it.
"""

from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import Field

from engine.errors import NodeFailure
from engine.sdk.trigger import (
    ConfigConflict,
    PollContext,
    PolledItem,
    PollFailed,
    PollResult,
    StreamSource,
    TriggerConfig,
    TriggerKind,
)
from engine.types import JSON
from engine.values.timestamps import format_timestamp


class RedisStreamConfig(TriggerConfig):
    """The config of a `redis_stream`."""

    url: str | None = Field(
        None,
        max_length=500,
        title="Address",
        description="The address of the server, without a password: `redis://` or `rediss://`.",
        examples=["redis://events.example.com:6379/0"],
    )
    secret: str | None = Field(
        None,
        max_length=100,
        title="Secret",
        description="Instead of `url`: the name of the secret with the address and its password.",
        examples=["events_redis"],
    )
    stream: str = Field(
        min_length=1, max_length=500, title="Stream", description="The key of the stream.", examples=["orders"]
    )
    group: str = Field(
        "treadle",
        min_length=1,
        max_length=200,
        title="Group",
        description="The consumer group. Triggers with different groups get all entries each.",
        examples=["treadle"],
    )
    start: Literal["new", "all"] = Field(
        "new",
        title="Start",
        description="Where a new group begins: behind the entries that exist, or with the first one.",
        examples=["all"],
    )
    everyS: int = Field(  # noqa: N815
        1, ge=1, le=3600, title="Interval", description="Seconds between two looks at the stream.", examples=[1]
    )
    maxItems: int = Field(  # noqa: N815
        100, ge=1, le=500, title="Limit", description="Entries of one look. More follow at once.", examples=[20]
    )
    claimIdleS: int = Field(  # noqa: N815
        60,
        ge=1,
        le=86_400,
        title="Claim",
        description="Seconds after which entries that another consumer of the group has left are taken over.",
        examples=[60],
    )

    def conflicts(self) -> list[ConfigConflict]:
        if (self.url is None) == (self.secret is None):
            return [ConfigConflict(("url", "secret"), "set exactly one of `url` and `secret`")]
        if self.url is not None and not self.url.startswith(("redis://", "rediss://")):
            return [ConfigConflict(("url",), "`url` must begin with redis:// or rediss://")]
        if self.url is not None and "@" in self.url:
            return [ConfigConflict(("url",), "`url` must have no password: put the whole address into a secret")]
        return []


class RedisStreamKind(TriggerKind[RedisStreamConfig]):
    """Fires for the entries of a stream."""

    name: ClassVar[str] = "redis_stream"
    title: ClassVar[str] = "Redis stream"
    description: ClassVar[str] = "Starts a run for each entry of a stream of Redis, by a consumer group."
    Config: ClassVar[type[TriggerConfig]] = RedisStreamConfig
    is_polled: ClassVar[bool] = True
    event_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "The id of the entry."},
            "stream": {"type": "string"},
            "fields": {"type": "object", "description": "Texts; other bytes are `{base64}`."},
            "polledAt": {"type": "string", "format": "date-time"},
        },
        "required": ["id", "stream", "fields", "polledAt"],
    }
    example: ClassVar[dict[str, Any]] = {"secret": "events_redis", "stream": "orders"}

    def next_time(self, config: RedisStreamConfig, after: datetime) -> datetime | None:
        return after + timedelta(seconds=config.everyS)

    def first_time(self, config: RedisStreamConfig, now: datetime) -> datetime | None:
        return now

    def event(self, config: RedisStreamConfig, planned: datetime) -> dict[str, JSON]:
        return _event(config, "0-1", {"sample": "A sample"}, planned)

    async def poll(self, config: RedisStreamConfig, state: JSON, context: PollContext) -> PollResult:
        try:
            url = config.url if config.secret is None else await context.secret(config.secret)
        except NodeFailure as failure:
            raise PollFailed(failure.message) from failure
        source = StreamSource(url or "", config.stream, config.group, context.trigger_id)
        position = state.get("lastId") if isinstance(state, dict) else None
        read = await context.streams.read(
            source,
            position if isinstance(position, str) else None,
            from_start=config.start == "all",
            count=config.maxItems,
            claim_idle_s=config.claimIdleS,
        )

        async def acknowledge() -> None:
            await context.streams.acknowledge(source, read.ids)

        items = [PolledItem(f"entry:{one.id}", _event(config, one.id, one.fields, context.now)) for one in read.entries]
        return PollResult(
            tuple(items), {"lastId": read.position}, acknowledge if read.ids else None, len(items) >= config.maxItems
        )


def _event(config: RedisStreamConfig, id: str, fields: dict[str, JSON], now: datetime) -> dict[str, JSON]:
    return {"id": id, "stream": config.stream, "fields": fields, "polledAt": format_timestamp(now)}
