"""The nested parts of the config of `http`: body, sign-in, retries, response and pagination."""

from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, model_validator
from pydantic.config import JsonDict

from engine.nodes.http.request import PLAIN_TEXT
from engine.nodes.http.response import Kind
from engine.types import JSON

TEMPLATE: JsonDict = {"format": "template"}
MAX_BYTES = 8 * 1024 * 1024
"""Bytes of an output."""


class HttpModel(BaseModel):
    """Base of the nested parts. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JsonBody(HttpModel, title="JSON"):
    type: Literal["json"] = Field(title="Kind", description="A JSON document.")
    content: JSON = Field(
        title="Content",
        description="Any JSON, with templates.",
        examples=[{"id": "{{ input.id }}"}],
        json_schema_extra=TEMPLATE,
    )


class FormBody(HttpModel, title="Form"):
    type: Literal["form"] = Field(title="Kind", description="Fields of a web form, URL-encoded.")
    content: dict[str, JSON] = Field(
        title="Fields",
        description="Values by name. A list sends the name once for each item.",
        examples=[{"q": "{{ input.q }}"}],
        json_schema_extra=TEMPLATE,
    )


class FilePart(HttpModel, title="Part"):
    name: str = Field(min_length=1, title="Name", description="The field's name.", examples=["file"])
    content: str = Field(
        title="Content",
        description="The content, as text or base64.",
        examples=["{{ input.csv }}"],
        json_schema_extra=TEMPLATE,
    )
    encoding: Literal["text", "base64"] = Field("text", title="Encoding", description="The encoding of `content`.")
    filename: str | None = Field(
        None,
        title="File name",
        description="If set, the part is a file.",
        examples=["a.csv"],
        json_schema_extra=TEMPLATE,
    )
    media: str | None = Field(
        None,
        title="Media type",
        description="The Content-Type of the part.",
        examples=["text/csv"],
        json_schema_extra=TEMPLATE,
    )


class MultipartBody(HttpModel, title="Files and fields"):
    type: Literal["multipart"] = Field(title="Kind", description="Fields and files, as multipart/form-data.")
    content: tuple[FilePart, ...] = Field(
        min_length=1,
        max_length=100,
        title="Parts",
        description="The parts in the order in which they are sent.",
        examples=[[{"name": "report", "content": "{{ input.csv }}", "filename": "report.csv", "media": "text/csv"}]],
    )


class RawBody(HttpModel, title="Text or bytes"):
    type: Literal["raw"] = Field(title="Kind", description="Text or bytes, sent unchanged.")
    content: str = Field(
        title="Content", description="Text, or bytes as base64.", examples=["<order/>"], json_schema_extra=TEMPLATE
    )
    encoding: Literal["text", "base64"] = Field("text", title="Encoding", description="The encoding of `content`.")
    media: str = Field(PLAIN_TEXT, title="Media type", description="The Content-Type.", examples=["application/xml"])


BODY_KINDS = ("json", "form", "multipart", "raw")


def with_body_kind(value: JSON) -> JSON:
    """Add the kind to a body that is written without one: text is `raw`, all else is `json`.

    An object is a body with a kind if its `type` is a kind, or if it has `type` and `content`.
    """
    if isinstance(value, dict) and (value.get("type") in BODY_KINDS or {"type", "content"} <= value.keys()):
        return value
    if value is None:
        return None
    return {"type": "raw" if isinstance(value, str) else "json", "content": value}


def add_plain_body(schema: JsonDict) -> None:
    """Add the form without a kind to the JSON Schema of `body`."""
    plain: JsonDict = {"title": "JSON or text", "description": "Without a kind.", **TEMPLATE}
    options = schema.get("anyOf")
    schema["anyOf"] = [*(options if isinstance(options, list) else []), plain]


Body = Annotated[JsonBody | FormBody | MultipartBody | RawBody, Discriminator("type")]
OptionalBody = Annotated[Body | None, BeforeValidator(with_body_kind)]


class BearerAuth(HttpModel, title="Bearer token"):
    type: Literal["bearer"] = Field(title="Kind", description="`Authorization: Bearer …`.")
    token: str = Field(
        title="Token", description="Use a secret.", examples=["{{ secrets.api_token }}"], json_schema_extra=TEMPLATE
    )


class BasicAuth(HttpModel, title="Name and password"):
    type: Literal["basic"] = Field(title="Kind", description="`Authorization: Basic …`.")
    username: str = Field(
        title="User name", description="The user name.", examples=["treadle"], json_schema_extra=TEMPLATE
    )
    password: str = Field(
        title="Password", description="Use a secret.", examples=["{{ secrets.password }}"], json_schema_extra=TEMPLATE
    )


class HeaderAuth(HttpModel, title="Key in a header"):
    type: Literal["header"] = Field(title="Kind", description="A key in its own header.")
    name: str = Field(min_length=1, title="Header", description="The header's name.", examples=["X-Api-Key"])
    value: str = Field(
        title="Value", description="Use a secret.", examples=["{{ secrets.api_key }}"], json_schema_extra=TEMPLATE
    )


Auth = Annotated[BearerAuth | BasicAuth | HeaderAuth, Discriminator("type")]


class RetryConfig(HttpModel):
    """Retries of one request within one attempt of the node."""

    max_attempts: int = Field(
        default=3,
        validation_alias=AliasChoices("maxAttempts", "max_attempts"),
        ge=1,
        le=10,
        title="Attempts",
        description="How often a request is sent at most, including the first time.",
        examples=[3],
    )
    backoff_s: float = Field(
        default=1.0,
        validation_alias=AliasChoices("backoffS", "backoff_s"),
        ge=0,
        le=600,
        title="Pause (s)",
        description="The pause before the first retry; it doubles each time. `Retry-After` overrides it.",
        examples=[1],
    )
    max_wait_s: float = Field(
        default=60.0,
        validation_alias=AliasChoices("maxWaitS", "max_wait_s"),
        ge=0,
        le=3600,
        title="Longest pause (s)",
        description="If a target asks for a longer pause, the request is not sent again.",
        examples=[60],
    )
    any_method: bool = Field(
        default=False,
        validation_alias=AliasChoices("anyMethod", "any_method"),
        title="Repeat every method",
        description="Also POST and PATCH, which may then take effect twice if the target ignores `Idempotency-Key`.",
        examples=[True],
    )


class ResponseConfig(HttpModel):
    """How the response is read."""

    kind: Kind = Field(
        default="auto",
        title="Kind",
        description="How the body is decoded. `auto` uses its Content-Type: JSON, text, or else base64.",
        examples=["json"],
    )
    max_bytes: int = Field(
        default=2 * 1024 * 1024,
        validation_alias=AliasChoices("maxBytes", "max_bytes"),
        ge=1,
        le=MAX_BYTES,
        title="Largest body (bytes)",
        description="Counted after decompression, over all pages together.",
        examples=[1048576],
    )


class PaginationConfig(HttpModel):
    """How the next page is found: by `Link` header, address or cursor.

    Paths look like `meta.next`.
    """

    by: Literal["link", "url", "cursor"] = Field(
        title="By",
        description="`link`: the header `Link` with rel=next. `url`: an address in the body. `cursor`: a value in the body "
        "that the next request sends.",
        examples=["link"],
    )
    path: str | None = Field(
        None,
        min_length=1,
        title="Path",
        description="The path of the address or of the cursor in the body.",
        examples=["meta.next_cursor"],
    )
    parameter: str = Field(
        "cursor",
        min_length=1,
        title="Parameter",
        description="The query parameter for the cursor.",
        examples=["cursor"],
    )
    items: str | None = Field(
        None,
        min_length=1,
        title="Items",
        description="The path of the list in the body of a page. Without it, the body is the list.",
        examples=["data"],
    )
    limit: int = Field(
        10, ge=1, le=1000, title="Most pages", description="The maximum number of pages to read.", examples=[10]
    )

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        if self.by != "link" and self.path is None:
            raise ValueError(f"pages by {self.by} need a `path`: where the {self.by} is in the body")
        return self
