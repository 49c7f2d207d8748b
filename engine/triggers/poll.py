"""The trigger kind `poll`: fetches a list over HTTP, and fires for its new items.

The list is JSON, RSS or Atom. The position in the source is the `state` of the trigger: the validators
of the response (ETag, Last-Modified), the cursor, and the keys of the items that were seen. It is
written by the transaction that fires. Requests go through the guard of the `http` node.
"""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar, Literal

import httpx2
import orjson
from pydantic import Field

from engine.errors import NodeFailure
from engine.expressions import evaluator
from engine.expressions.evaluator import ExpressionError
from engine.isolation import suspension
from engine.isolation.client import ResourceLimitExceeded, run_isolated
from engine.isolation.computation import computed
from engine.nodes.http import request
from engine.nodes.http.exchange import ExchangeLimits, HttpResponse, exchange
from engine.nodes.http.visible_address import VisibleAddress, origin_of
from engine.sdk.trigger import (
    ConfigConflict,
    PollContext,
    PolledItem,
    PollFailed,
    PollResult,
    TriggerConfig,
    TriggerKind,
)
from engine.types import JSON
from engine.values.json_text import NotJson, parse_json
from engine.values.storable import stored_form
from engine.values.timestamps import format_timestamp

TIMEOUT_S = 30.0
"""The time of one request, in seconds."""
MAX_LISTED = 1000
"""Items of one response."""
MAX_SEEN = 2000
"""Keys of items that are remembered: all of the last response, and then older ones."""
MAX_CURSOR = 1000
"""Characters of a cursor."""


class PollConfig(TriggerConfig):
    """The config of a `poll`."""

    url: str = Field(
        min_length=1,
        max_length=2000,
        title="Address",
        description="The address of the list. A template that sees `cursor`, which is null at first.",
        examples=["https://api.example.com/orders?since={{ cursor or '' }}"],
    )
    everyS: int = Field(  # noqa: N815
        300, ge=5, le=7 * 86_400, title="Interval", description="Seconds between two requests.", examples=[60]
    )
    format: Literal["auto", "json", "feed"] = Field(
        "auto",
        title="Format",
        description="`json`, or `feed` for RSS and Atom. `auto`: by the content type, else by the first character.",
        examples=["feed"],
    )
    items: str | None = Field(
        None,
        max_length=1000,
        title="Items",
        description="An expression over `body` that gives the list, such as `body.data.orders`. Default: the body itself.",
        examples=["body.orders"],
    )
    key: str | None = Field(
        None,
        max_length=1000,
        title="Key",
        description="A template over `item` whose value identifies an item. Default: its `id`, its `link`, or its content.",
        examples=["{{ item.number }}"],
    )
    cursor: str | None = Field(
        None,
        max_length=1000,
        title="Cursor",
        description="A template over `items` and `cursor`, whose value the next request sees as `cursor`.",
        examples=["{{ items[-1].updatedAt if items else cursor }}"],
    )
    headers: dict[str, str] = Field(
        {},
        max_length=20,
        title="Headers",
        description="Headers of the request. They are stored as they are: use `bearer` for a credential.",
        examples=[{"accept": "application/json"}],
    )
    bearer: str | None = Field(
        None,
        max_length=100,
        title="Bearer token",
        description="The name of the secret that is sent as `Authorization: Bearer …`.",
        examples=["orders_token"],
    )
    runPer: Literal["item", "batch"] = Field(  # noqa: N815
        "item",
        title="Run per",
        description="One run for each new item, or one for all of a request.",
        examples=["batch"],
    )
    firstPoll: Literal["silent", "fire"] = Field(  # noqa: N815
        "silent",
        title="First request",
        description="Whether the items that the list has at first fire. `silent`: only later ones do.",
        examples=["fire"],
    )
    maxItems: int = Field(  # noqa: N815
        100,
        ge=1,
        le=500,
        title="Limit",
        description="New items of one request. More fire by the next one.",
        examples=[20],
    )
    maxBytes: int = Field(  # noqa: N815
        1024 * 1024,
        ge=1,
        le=10 * 1024 * 1024,
        title="Size limit",
        description="Bytes of the largest response.",
        examples=[65_536],
    )

    def conflicts(self) -> list[ConfigConflict]:
        found = []
        names = {"url": {"cursor"}, "key": {"item"}, "cursor": {"items", "cursor"}}
        for field, allowed in names.items():
            text = getattr(self, field)
            if text is not None and (message := _template_problem(field, text, allowed)):
                found.append(ConfigConflict((field,), message))
        if self.items is not None and (problems := evaluator.check(self.items, expression=True)):
            found.append(ConfigConflict(("items",), f"`items` is no expression: {problems[0][0]}"))
        return found


def _template_problem(field: str, text: str, allowed: set[str]) -> str | None:
    if problems := evaluator.check(text):
        return f"`{field}` is no template: {problems[0][0]}"
    unknown = sorted(evaluator.template_names(text) - allowed)
    return f"`{field}` sees {' and '.join(sorted(allowed))} only, not `{unknown[0]}`" if unknown else None


class PollKind(TriggerKind[PollConfig]):
    """Fires for the new items of a list."""

    name: ClassVar[str] = "poll"
    title: ClassVar[str] = "Poll"
    description: ClassVar[str] = "Starts a run for each new item of a list over HTTP: JSON, RSS or Atom."
    Config: ClassVar[type[TriggerConfig]] = PollConfig
    is_polled: ClassVar[bool] = True
    event_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "item": {"description": "With `runPer: item`: the item."},
            "key": {"type": "string", "description": "With `runPer: item`: what identifies it."},
            "items": {"type": "array", "description": "With `runPer: batch`: the new items."},
            "keys": {"type": "array", "items": {"type": "string"}},
            "polledAt": {"type": "string", "format": "date-time"},
        },
        "required": ["polledAt"],
    }
    example: ClassVar[dict[str, Any]] = {"url": "https://www.example.com/feed.xml", "everyS": 300}

    def next_time(self, config: PollConfig, after: datetime) -> datetime | None:
        return after + timedelta(seconds=config.everyS)

    def first_time(self, config: PollConfig, now: datetime) -> datetime | None:
        return now

    def event(self, config: PollConfig, planned: datetime) -> dict[str, JSON]:
        return _event(config, [("sample", {"id": "sample", "title": "A sample"})], planned)

    async def poll(self, config: PollConfig, state: JSON, context: PollContext) -> PollResult:
        before: dict[str, Any] = state if isinstance(state, dict) else {}
        url = await suspension.call(_address, config, before.get("cursor"))
        response = await _fetch(config, url, before, context)
        if response.status == 304:
            return PollResult((), state)
        if not 200 <= response.status < 300:
            raise PollFailed(f"the source answered {response.status} instead of a list")
        listed = await suspension.call(_listed, config, response)
        return await suspension.call(_result, config, before, url, response, listed, context.now)


def _address(config: PollConfig, cursor: JSON) -> str:
    url = _rendered("url", config.url, {"cursor": cursor})
    try:
        return str(request.address(url, {}))
    except NodeFailure as failure:
        raise PollFailed(failure.message) from failure


def _rendered(field: str, template: str, scope: dict[str, Any]) -> JSON:
    try:
        return evaluator.render(template, scope)
    except ExpressionError as error:
        raise PollFailed(f"`{field}` of the trigger cannot be rendered: {error}") from error


async def _fetch(config: PollConfig, url: str, before: dict[str, Any], context: PollContext) -> HttpResponse:
    limits = ExchangeLimits(TIMEOUT_S, config.maxBytes, 5, size_field="maxBytes")
    try:
        headers = request.headers({"accept": "*/*", **config.headers}, None)
        if config.bearer is not None:
            headers["authorization"] = f"Bearer {await context.secret(config.bearer)}"
        if before.get("url") == url:
            headers.update({name: before[field] for name, field in _VALIDATORS.items() if before.get(field)})
        async with context.http.client() as client:
            sent = client.build_request("GET", url, headers=headers)
            return await exchange(client, sent, limits, resend_body=False, visible=VisibleAddress(origin_of(url)))
    except NodeFailure as failure:
        raise PollFailed(failure.message) from failure
    except (httpx2.InvalidURL, ValueError) as error:
        raise PollFailed("the request cannot be made: its address or a header is not valid") from error


_VALIDATORS = {"if-none-match": "etag", "if-modified-since": "modified"}


def _listed(config: PollConfig, response: HttpResponse) -> list[JSON]:
    """Return the items of a response, oldest first. Raises PollFailed."""
    body = _body(config, response)
    if config.items is not None:
        try:
            body = evaluator.evaluate(config.items, {"body": body})
        except ExpressionError as error:
            raise PollFailed(f"`items` of the trigger cannot be evaluated: {error}") from error
    if not isinstance(body, list):
        where = "the response" if config.items is None else "`items`"
        raise PollFailed(f"the source has changed: {where} gives {_kind(body)} instead of a list")
    if len(body) > MAX_LISTED:
        raise PollFailed(f"the source returned {len(body):,} items, over the limit of {MAX_LISTED:,}")
    return body


def _body(config: PollConfig, response: HttpResponse) -> JSON:
    if not _is_feed(config, response):
        try:
            return computed(parse_json, response.content)
        except NotJson as error:
            raise PollFailed(f"the source has changed: its response {error}") from error
    try:
        entries = run_isolated("engine.triggers.feed.feed_entries", response.content.decode("latin-1"))
    except ResourceLimitExceeded as error:
        raise PollFailed(f"the feed cannot be read: it {error}") from error
    if isinstance(entries, str):
        raise PollFailed(entries)
    # Feeds have the newest entry first.
    return list(reversed(entries))


def _is_feed(config: PollConfig, response: HttpResponse) -> bool:
    if config.format != "auto":
        return config.format == "feed"
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media.endswith("xml") or (not media.endswith("json") and response.content.lstrip()[:1] == b"<")


def _result(
    config: PollConfig, before: dict[str, Any], url: str, response: HttpResponse, listed: list[JSON], now: datetime
) -> PollResult:
    keyed = {_key(config, item): item for item in reversed(listed)}
    ordered = list(reversed(keyed.items()))
    seen = list(before.get("seen", []))
    known = set(seen)
    fresh = [(key, item) for key, item in ordered if _mark(key) not in known]
    taken = [] if not before and config.firstPoll == "silent" else fresh[: config.maxItems]
    has_more = len(fresh) > len(taken) and bool(taken)
    left = {_mark(key) for key, _ in fresh[len(taken) :]} if has_more else set()
    marks = [mark for mark in map(_mark, keyed) if mark not in left]
    state: dict[str, JSON] = {
        "url": url,
        "seen": [*marks, *(mark for mark in seen if mark not in set(marks))][:MAX_SEEN],
        "cursor": before.get("cursor"),
    }
    if not has_more:  # Else the next request must get the list again.
        state |= {"etag": response.headers.get("etag"), "modified": response.headers.get("last-modified")}
        state["cursor"] = _cursor(config, listed, before.get("cursor"))
    return PollResult(tuple(_fired(config, taken, now)), state)


def _fired(config: PollConfig, taken: list[tuple[str, JSON]], now: datetime) -> list[PolledItem]:
    if config.runPer == "item":
        return [PolledItem(f"item:{key}", _event(config, [(key, item)], now)) for key, item in taken]
    if not taken:
        return []
    return [PolledItem(f"batch:{_mark(chr(0).join(key for key, _ in taken))}", _event(config, taken, now))]


def _event(config: PollConfig, taken: list[tuple[str, Any]], now: datetime) -> dict[str, JSON]:
    polled: dict[str, JSON] = {"polledAt": format_timestamp(now)}
    if config.runPer == "item":
        return {"item": taken[0][1], "key": taken[0][0], **polled}
    return {"items": [item for _, item in taken], "keys": [key for key, _ in taken], **polled}


def _key(config: PollConfig, item: JSON) -> str:
    """Return what identifies an item. Raises PollFailed."""
    if config.key is not None:
        value = _rendered("key", config.key, {"item": item})
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise PollFailed("the source has changed: `key` gives no text and no whole number for an item")
        return _bounded(str(value))
    members = item if isinstance(item, dict) else {}
    for name in ("id", "guid", "link"):
        value = members.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return _bounded(str(value))
    return sha256(orjson.dumps(stored_form(item), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _bounded(key: str) -> str:
    return key if len(key) <= 200 else sha256(key.encode()).hexdigest()


def _mark(key: str) -> str:
    """Return a short hash of a key."""
    return sha256(key.encode()).hexdigest()[:16]


def _cursor(config: PollConfig, items: list[JSON], cursor: JSON) -> JSON:
    if config.cursor is None:
        return None
    value = _rendered("cursor", config.cursor, {"items": items, "cursor": cursor})
    if value is not None and (isinstance(value, dict | list | bool) or len(str(value)) > MAX_CURSOR):
        raise PollFailed(f"`cursor` of the trigger gives {_kind(value)} instead of a short text or a number")
    return value


def _kind(value: JSON) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    return kinds.get(type(value), "a number")
