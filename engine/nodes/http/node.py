"""The node type `http`: sends one request, or reads the pages of a list.

docs/tools.md describes which addresses are refused. Nothing is stored; requests that change
something carry the idempotency key of the visit.
"""

import re
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Literal

import httpx2
from pydantic import AliasChoices, Field, field_validator

from engine.errors import RETRY_AFTER, TRANSIENT_STATUSES, NodeFailure
from engine.nodes.http import request as builder
from engine.nodes.http.client import GuardedHttp
from engine.nodes.http.config import (
    TEMPLATE,
    Auth,
    OptionalBody,
    PaginationConfig,
    ResponseConfig,
    RetryConfig,
    add_plain_body,
)
from engine.nodes.http.exchange import (
    ExchangeLimits,
    HttpResponse,
    cross_origin_headers,
    exchange,
    is_cross_origin,
)
from engine.nodes.http.pagination import read_pages
from engine.nodes.http.response import decode
from engine.nodes.http.retries import RetryPolicy, retry_after, with_retries
from engine.nodes.http.visible_address import VisibleAddress, mentions_secrets
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.states import LogLevel
from engine.types import JSON

USER_AGENT = "Treadle"
EXCERPT = 2000
"""Bytes of an unexpected response in the details of the failure."""
_STATUS = re.compile(r"[1-5](\d\d|xx)")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class HttpConfig(NodeConfig):
    """The config of an `http` node."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = Field(
        "GET", title="Method", description="The HTTP method.", examples=["POST"]
    )
    url: str = Field(
        min_length=1,
        title="Address",
        description="An address with http:// or https://. Write `{{ input.id | urlencode }}` for a value in the path.",
        examples=["https://api.example.com/orders/{{ input.id | urlencode }}"],
        json_schema_extra=TEMPLATE,
    )
    headers: dict[str, JSON] = Field(
        default_factory=dict,
        title="Headers",
        description="Headers by name. A redirect to another origin does not send them.",
        examples=[{"Accept": "application/json"}],
        json_schema_extra=TEMPLATE,
    )
    query: dict[str, JSON] = Field(
        default_factory=dict,
        title="Query",
        description="Parameters by name. A list sends the name once for each item, null leaves it out. They follow "
        "those of `url`, which are sent as they are, also if they have the same name.",
        examples=[{"page": 1, "tag": ["a", "b"]}],
        json_schema_extra=TEMPLATE,
    )
    body: OptionalBody = Field(
        None,
        title="Body",
        description="JSON or text; with `type`: JSON, a form, multipart or raw.",
        examples=[{"id": "{{ input.id }}"}, {"type": "form", "content": {"q": "{{ input.q }}"}}],
        json_schema_extra=add_plain_body,
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
        description="Any other status fails the node. `2xx` means 200 to 299.",
        examples=[["2xx", 404]],
    )
    response: ResponseConfig = Field(
        default_factory=ResponseConfig,
        title="Response",
        description="How the body is decoded, and how large it may be.",
        examples=[{"kind": "json"}],
    )
    retry: RetryConfig = Field(
        default_factory=RetryConfig,
        title="Retries",
        description="Retries after 429, 5xx, or without a connection. POST and PATCH are repeated only after 429, or if nothing "
        "was sent.",
        examples=[{"maxAttempts": 5}],
    )
    pagination: PaginationConfig | None = Field(
        None,
        title="Pages",
        description="Reads a list page by page. The body is then the list of all items.",
        examples=[{"by": "cursor", "path": "meta.next", "parameter": "after", "items": "data"}],
    )
    connect_timeout_s: float = Field(
        10.0,
        gt=0,
        le=300,
        validation_alias=AliasChoices("connectTimeoutS", "connect_timeout_s"),
        title="Time to connect (s)",
        description="Seconds to resolve the name and to connect.",
        examples=[10],
    )
    timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        validation_alias=AliasChoices("timeoutS", "timeout_s"),
        title="Time for a request (s)",
        description="Seconds from connecting to the last byte, redirects included, for each attempt and each page. "
        "The `timeoutS` of the node limits all of them together.",
        examples=[30],
    )
    max_redirects: int = Field(
        5,
        ge=0,
        le=20,
        validation_alias=AliasChoices("maxRedirects", "max_redirects"),
        title="Redirects",
        description="How many redirects are followed. With 0 the redirect itself is the response.",
        examples=[0],
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if "{" not in url and not url.lower().startswith(("http://", "https://")):
            raise ValueError("`url` begins with http:// or https://")
        return url

    @field_validator("expect")
    @classmethod
    def _check_expect(cls, expect: tuple[int | str, ...]) -> tuple[int | str, ...]:
        for status in expect:
            if not _STATUS.fullmatch(str(status).lower()):
                raise ValueError(f"{status!r} is no status; write 200 or 2xx")
        return expect

    def expects(self, status: int) -> bool:
        """Return whether the status is an expected one."""
        return any(str(pattern).lower() in (str(status), f"{status // 100}xx") for pattern in self.expect)


class HttpNode(NodeType[HttpConfig]):
    """Sends the requests with a client of its own, which is closed at the end."""

    name: ClassVar[str] = "http"
    title: ClassVar[str] = "HTTP request"
    description: ClassVar[str] = (
        "Calls an HTTP API. Private and local addresses are refused unless the administrator allows them."
    )
    category: ClassVar[str] = "integration"
    icon: ClassVar[str] = "globe"
    Config: ClassVar[type[NodeConfig]] = HttpConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "status": {"type": "integer", "description": "The status of the last response."},
            "headers": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Its headers, with names in lower case; repeated headers are joined by a comma.",
            },
            "body": {"description": "JSON, text or base64, by `response.kind`; null if empty. With pages: all items."},
            "url": {"type": "string", "description": "The address after redirects."},
            "pages": {"type": "integer", "description": "With pages: how many were read."},
            "truncated": {"type": "boolean", "description": "With pages: whether there are more than the limit."},
        },
        "required": ["status", "headers", "body", "url"],
    }
    example: ClassVar[dict[str, Any]] = {
        "method": "POST",
        "url": "https://api.example.com/orders",
        "body": {"id": "{{ input.id }}"},
        "auth": {"type": "bearer", "token": "{{ secrets.api_token }}"},
    }

    async def execute(self, config: HttpConfig, ctx: NodeContext) -> Output:
        http: GuardedHttp | None = ctx.resources.get("http")
        if http is None:
            raise NodeFailure("HTTP_CONNECT", "this process has no HTTP client", retryable=True)
        values = ctx.render(config.model_dump(mode="json", include={"url", "query", "headers", "body", "auth"}))
        ctx.note_input(
            {"method": config.method, **{name: value for name, value in values.items() if value is not None}}
        )
        async with http.client(connect_s=config.connect_timeout_s) as client:
            return Output(await _Requests(config, ctx, client, values).output())


class _Requests:
    """The requests of one visit: one, or one for each page."""

    def __init__(
        self, config: HttpConfig, ctx: NodeContext, client: httpx2.AsyncClient, values: dict[str, Any]
    ) -> None:
        self._config, self._ctx, self._client = config, ctx, client
        self._url = builder.address(values["url"], values["query"])
        self._visible = VisibleAddress.of(config.url, config.query, str(self._url))
        self._headers = builder.headers(values["headers"], values["auth"])
        self._body, media = builder.body(values["body"])
        for name, value in (("user-agent", USER_AGENT), ("content-type", media)):
            if value is not None:
                self._headers.setdefault(name, value)
        self._resend_body = config.body is None or not mentions_secrets(config.body.model_dump_json())
        self._remaining = config.response.max_bytes

    async def output(self) -> JSON:
        """Send the requests and return the output of the node. Raises NodeFailure."""
        if self._config.pagination is None:
            response, body = await self._read(self._url, 1)
            return {**_head(response), "body": body}
        pages = await read_pages(self._url, self._config.pagination, self._read)
        if pages.is_truncated:
            self._ctx.log(LogLevel.WARNING, f"there are more than {pages.count} pages: the rest is not read")
        return {**_head(pages.response), "body": pages.items, "pages": pages.count, "truncated": pages.is_truncated}

    async def _read(self, url: httpx2.URL, page: int) -> tuple[HttpResponse, JSON]:
        if page > 1:
            self._ctx.progress(0.0, f"page {page}")
        config, retry = self._config, self._config.retry
        policy = RetryPolicy(retry.max_attempts, retry.backoff_s, retry.max_wait_s, retry.any_method)
        response = await with_retries(partial(self._send, url, page), config.method, policy, self._wait_for_retry)
        if not config.expects(response.status):
            raise _unexpected(response)
        self._remaining -= len(response.content)
        return response, decode(response, config.response.kind)

    async def _send(self, url: httpx2.URL, page: int) -> HttpResponse:
        limits = ExchangeLimits(self._config.timeout_s, self._remaining, self._config.max_redirects)
        request = self._client.build_request(
            self._config.method, url, headers=self._headers_for(url, page), **self._body
        )
        began = monotonic()
        try:
            response = await exchange(
                self._client, request, limits, resend_body=self._resend_body, visible=self._visible
            )
        except NodeFailure as failure:
            seconds = round(monotonic() - began, 3)
            self._ctx.log(LogLevel.WARNING, failure.message, code=failure.code, seconds=seconds)
            raise
        fields = {"status": response.status, "seconds": round(monotonic() - began, 3), "bytes": len(response.content)}
        self._ctx.log(LogLevel.INFO, f"{response.label} answered {response.status}", **fields)
        return response

    def _headers_for(self, url: httpx2.URL, page: int) -> httpx2.Headers:
        headers = httpx2.Headers(self._headers)
        if is_cross_origin(self._url, url):
            headers = httpx2.Headers(cross_origin_headers(headers))
        if self._config.method not in _SAFE_METHODS:
            # Each page is a separate request.
            key = self._ctx.idempotency_key
            headers.setdefault("idempotency-key", key if page == 1 else f"{key}/{page}")
        return headers

    async def _wait_for_retry(self, reason: str, pause: float, number: int) -> None:
        message = f"{reason}; attempt {number} in {pause:.1f} s"
        self._ctx.log(LogLevel.WARNING, message)
        self._ctx.progress(0.0, message)
        await self._ctx.pause(pause)


def _head(response: HttpResponse) -> dict[str, JSON]:
    return {"status": response.status, "headers": response.headers, "url": response.visible_url}


def _unexpected(response: HttpResponse) -> NodeFailure:
    details: dict[str, JSON] = {
        "status": response.status,
        "body": response.content[:EXCERPT].decode("utf-8", "replace").replace("\0", "\ufffd"),
    }
    if (pause := retry_after(response)) is not None:
        details[RETRY_AFTER] = pause
    message = f"{response.label} answered {response.status} {response.reason}".rstrip()
    return NodeFailure("HTTP_STATUS", message, retryable=response.status in TRANSIENT_STATUSES, details=details)
