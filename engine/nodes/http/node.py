"""`http`: one request, or the pages of a list, to an address that the author wrote. See docs/tools.md for what is refused."""

import re
from functools import partial
from typing import Any, ClassVar, Literal

import httpx2
from pydantic import AliasChoices, Field, field_validator

from engine.errors import NodeFailure
from engine.nodes.http import request as building
from engine.nodes.http.client import GuardedHttp
from engine.nodes.http.config import TEMPLATE, Auth, Body, Paging, Retrying, Wanted
from engine.nodes.http.exchange import ExchangeLimits, HttpAnswer, exchange, fit_for_elsewhere, is_elsewhere, shown
from engine.nodes.http.pagination import read_pages
from engine.nodes.http.response import decoded
from engine.nodes.http.retries import TRANSIENT, Policy, retry_after, with_retries
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.states import LogLevel
from engine.types import JSON

USER_AGENT = "Treadle"
EXCERPT = 2000
"""Bytes of an unexpected answer that its error shows."""
_STATUS = re.compile(r"[1-5](\d\d|xx)")
_READS = ("GET", "HEAD", "OPTIONS")
_MENTIONS_SECRETS = re.compile(r"\bsecrets\b")


class HttpConfig(NodeConfig):
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = Field(
        "GET", title="Method", description="What is asked of the target.", examples=["POST"]
    )
    url: str = Field(
        min_length=1,
        title="Address",
        description="http:// or https://. Write `{{ input.id | urlencode }}` for a value inside the path.",
        examples=["https://api.example.com/orders/{{ input.id | urlencode }}"],
        json_schema_extra=TEMPLATE,
    )
    headers: dict[str, JSON] = Field(
        default_factory=dict,
        title="Headers",
        description="By name. They do not go along when a redirect leads to another origin.",
        examples=[{"Accept": "application/json"}],
        json_schema_extra=TEMPLATE,
    )
    query: dict[str, JSON] = Field(
        default_factory=dict,
        title="Query",
        description="Parameters by name; a list sends the name once for each, null leaves it out.",
        examples=[{"page": 1, "tag": ["a", "b"]}],
        json_schema_extra=TEMPLATE,
    )
    body: Body | None = Field(
        None,
        title="Body",
        description="JSON, a form, multipart or raw.",
        examples=[{"type": "json", "content": {"id": "{{ input.id }}"}}],
    )
    auth: Auth | None = Field(
        None,
        title="Sign-in",
        description="A bearer token, a name with a password, or a key in a header.",
        examples=[{"type": "bearer", "token": "{{ secrets.api_token }}"}],
    )
    expect: tuple[int | str, ...] = Field(
        ("2xx",),
        min_length=1,
        title="Expected status",
        description="Every other status is an error. `2xx` means all from 200 to 299.",
        examples=[["2xx", 404]],
    )
    response: Wanted = Field(
        default_factory=Wanted,
        title="Response",
        description="How the body is read, and how large it may be.",
        examples=[{"kind": "json"}],
    )
    retry: Retrying = Field(
        default_factory=Retrying,
        title="Retries",
        description="After 429, 5xx, or without a connection. A method that may do a thing twice is repeated only after 429, "
        "or where nothing was sent.",
        examples=[{"maxAttempts": 5}],
    )
    pagination: Paging | None = Field(
        None,
        title="Pages",
        description="Reads a list page by page; the body is then all items of all pages.",
        examples=[{"by": "cursor", "path": "meta.next", "parameter": "after", "items": "data"}],
    )
    connect_timeout_s: float = Field(
        10.0,
        gt=0,
        le=300,
        validation_alias=AliasChoices("connectTimeoutS", "connect_timeout_s"),
        title="Time to connect (s)",
        description="For the look-up of the name and the connection.",
        examples=[10],
    )
    timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        validation_alias=AliasChoices("timeoutS", "timeout_s"),
        title="Time for a request (s)",
        description="From connecting to the last byte, redirects included. Each attempt and each page has its own; "
        "the node's own `timeoutS` bounds all of them.",
        examples=[30],
    )
    max_redirects: int = Field(
        5,
        ge=0,
        le=20,
        validation_alias=AliasChoices("maxRedirects", "max_redirects"),
        title="Redirects",
        description="How many are followed; with 0 the redirect itself is the answer.",
        examples=[0],
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        if "{" not in url and not url.lower().startswith(("http://", "https://")):
            raise ValueError("`url` begins with http:// or https://")
        return url

    @field_validator("expect")
    @classmethod
    def _are_statuses(cls, expect: tuple[int | str, ...]) -> tuple[int | str, ...]:
        for status in expect:
            if not _STATUS.fullmatch(str(status).lower()):
                raise ValueError(f"{status!r} is no status; write 200 or 2xx")
        return expect

    def expects(self, status: int) -> bool:
        return any(str(one).lower() in (str(status), f"{status // 100}xx") for one in self.expect)


class HttpNode(NodeType[HttpConfig]):
    name: ClassVar[str] = "http"
    title: ClassVar[str] = "HTTP request"
    description: ClassVar[str] = (
        "Calls an HTTP API. Private and local addresses are refused unless the host allows them."
    )
    category: ClassVar[str] = "integration"
    icon: ClassVar[str] = "globe"
    Config: ClassVar[type[NodeConfig]] = HttpConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "status": {"type": "integer", "description": "The status of the last answer."},
            "headers": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Its headers; the names in lower case, repeated ones joined by a comma.",
            },
            "body": {
                "description": "JSON, text or base64, as `response.kind` says; null if empty. With pages: all items."
            },
            "url": {"type": "string", "description": "Where it came from, after redirects."},
            "pages": {"type": "integer", "description": "With pages: how many were read."},
            "truncated": {"type": "boolean", "description": "With pages: whether the limit cut them short."},
        },
        "required": ["status", "headers", "body", "url"],
    }
    example: ClassVar[dict[str, Any]] = {
        "method": "POST",
        "url": "https://api.example.com/orders",
        "body": {"type": "json", "content": {"id": "{{ input.id }}"}},
        "auth": {"type": "bearer", "token": "{{ secrets.api_token }}"},
    }

    async def execute(self, config: HttpConfig, ctx: NodeContext) -> Output:
        outside: GuardedHttp | None = ctx.resources.get("http")
        if outside is None:
            raise NodeFailure("HTTP_CONNECT", "this process makes no HTTP calls", retryable=True)
        given = ctx.render(config.model_dump(mode="json", include={"url", "query", "headers", "body", "auth"}))
        ctx.note_input({"method": config.method, **{name: value for name, value in given.items() if value is not None}})
        async with outside.client(connect_s=config.connect_timeout_s) as client:
            return Output(await _Call(config, ctx, client, given).output())


class _Call:
    """One visit's requests, by one client."""

    def __init__(self, config: HttpConfig, ctx: NodeContext, client: httpx2.AsyncClient, given: dict[str, Any]) -> None:
        self._config, self._ctx, self._client = config, ctx, client
        self._url = building.address(given["url"], given["query"])
        self._headers = building.headers(given["headers"], given["auth"])
        self._body, media = building.body(given["body"])
        for name, value in (("user-agent", USER_AGENT), ("content-type", media)):
            if value is not None:
                self._headers.setdefault(name, value)
        self._resend_body = config.body is None or not _MENTIONS_SECRETS.search(config.body.model_dump_json())
        self._left = config.response.max_bytes

    async def output(self) -> JSON:
        if self._config.pagination is None:
            answer, body = await self._read(self._url, 1)
            return {**_head(answer), "body": body}
        found = await read_pages(self._url, self._config.pagination, self._read)
        if found.is_cut:
            self._ctx.log(LogLevel.WARNING, f"there are more than {found.pages} pages: the rest is left out")
        return {**_head(found.answer), "body": found.items, "pages": found.pages, "truncated": found.is_cut}

    async def _read(self, url: httpx2.URL, page: int) -> tuple[HttpAnswer, JSON]:
        if page > 1:
            self._ctx.progress(0.0, f"page {page}")
        config, retry = self._config, self._config.retry
        policy = Policy(retry.max_attempts, retry.backoff_s, retry.max_wait_s, retry.any_method)
        answer = await with_retries(partial(self._send, url, page), config.method, policy, self._waiting)
        if not config.expects(answer.status):
            raise _unexpected(answer)
        self._left -= len(answer.content)
        return answer, decoded(answer, config.response.kind)

    async def _send(self, url: httpx2.URL, page: int) -> HttpAnswer:
        limits = ExchangeLimits(self._config.timeout_s, self._left, self._config.max_redirects)
        request = self._client.build_request(
            self._config.method, url, headers=self._headers_for(url, page), **self._body
        )
        return await exchange(self._client, request, limits, resend_body=self._resend_body)

    def _headers_for(self, url: httpx2.URL, page: int) -> httpx2.Headers:
        headers = httpx2.Headers(self._headers)
        if is_elsewhere(self._url, url):
            headers = httpx2.Headers(fit_for_elsewhere(headers))
        if self._config.method not in _READS:
            # Every page is a request of its own.
            key = self._ctx.idempotency_key
            headers.setdefault("idempotency-key", key if page == 1 else f"{key}/{page}")
        return headers

    def _waiting(self, what: str, pause: float, number: int) -> None:
        message = f"{what}; attempt {number} in {pause:.1f} s"
        self._ctx.log(LogLevel.WARNING, message)
        self._ctx.progress(0.0, message)


def _head(answer: HttpAnswer) -> dict[str, JSON]:
    return {"status": answer.status, "headers": answer.headers, "url": answer.url}


def _unexpected(answer: HttpAnswer) -> NodeFailure:
    details: dict[str, JSON] = {
        "status": answer.status,
        "body": answer.content[:EXCERPT].decode("utf-8", "replace").replace("\0", "\ufffd"),
    }
    if (pause := retry_after(answer)) is not None:
        details["retryAfterS"] = pause
    told = f"{shown(answer.method, answer.url)} answered {answer.status} {answer.reason}".rstrip()
    return NodeFailure("HTTP_STATUS", told, retryable=answer.status in TRANSIENT, details=details)
