"""The parts of the `http` node's config: body, sign-in, retries, the response and its pages."""

from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Discriminator, Field, model_validator
from pydantic.config import JsonDict

from engine.nodes.http.response import Kind
from engine.types import JSON

TEMPLATE: JsonDict = {"format": "template"}
MAX_BYTES = 8 * 1024 * 1024
"""As much as an output may have."""


class MultipartPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JsonBody(MultipartPart, title="JSON"):
    type: Literal["json"] = Field(title="Kind", description="A JSON document.")
    content: JSON = Field(
        title="Content",
        description="Any JSON, with templates.",
        examples=[{"id": "{{ input.id }}"}],
        json_schema_extra=TEMPLATE,
    )


class FormBody(MultipartPart, title="Form"):
    type: Literal["form"] = Field(title="Kind", description="Fields as a web form sends them, URL-encoded.")
    content: dict[str, JSON] = Field(
        title="Fields",
        description="Values by name; a list sends the name once for each.",
        examples=[{"q": "{{ input.q }}"}],
        json_schema_extra=TEMPLATE,
    )


class FilePart(MultipartPart, title="MultipartPart"):
    name: str = Field(min_length=1, title="Name", description="The field's name.", examples=["file"])
    content: str = Field(
        title="Content",
        description="Its content, as text or base64.",
        examples=["{{ input.csv }}"],
        json_schema_extra=TEMPLATE,
    )
    encoding: Literal["text", "base64"] = Field("text", title="Encoding", description="How `content` is written.")
    filename: str | None = Field(
        None,
        title="File name",
        description="With one, the part is a file.",
        examples=["a.csv"],
        json_schema_extra=TEMPLATE,
    )
    media: str | None = Field(
        None, title="Media type", description="What the part is.", examples=["text/csv"], json_schema_extra=TEMPLATE
    )


class MultipartBody(MultipartPart, title="Files and fields"):
    type: Literal["multipart"] = Field(title="Kind", description="Fields and files, as multipart/form-data.")
    content: tuple[FilePart, ...] = Field(
        min_length=1,
        max_length=100,
        title="Parts",
        description="In the order in which they are sent.",
        examples=[[{"name": "report", "content": "{{ input.csv }}", "filename": "report.csv", "media": "text/csv"}]],
    )


class RawBody(MultipartPart, title="Text or bytes"):
    type: Literal["raw"] = Field(title="Kind", description="Text or bytes as they are.")
    content: str = Field(
        title="Content", description="Text, or bytes as base64.", examples=["<order/>"], json_schema_extra=TEMPLATE
    )
    encoding: Literal["text", "base64"] = Field("text", title="Encoding", description="How `content` is written.")
    media: str = Field(
        "text/plain; charset=utf-8", title="Media type", description="The Content-Type.", examples=["application/xml"]
    )


Body = Annotated[JsonBody | FormBody | MultipartBody | RawBody, Discriminator("type")]


class BearerAuth(MultipartPart, title="Bearer token"):
    type: Literal["bearer"] = Field(title="Kind", description="`Authorization: Bearer …`.")
    token: str = Field(
        title="Token", description="A secret, best.", examples=["{{ secrets.api_token }}"], json_schema_extra=TEMPLATE
    )


class BasicAuth(MultipartPart, title="Name and password"):
    type: Literal["basic"] = Field(title="Kind", description="`Authorization: Basic …`.")
    username: str = Field(title="User name", description="Who.", examples=["treadle"], json_schema_extra=TEMPLATE)
    password: str = Field(
        title="Password", description="A secret, best.", examples=["{{ secrets.password }}"], json_schema_extra=TEMPLATE
    )


class HeaderAuth(MultipartPart, title="Key in a header"):
    type: Literal["header"] = Field(title="Kind", description="A key in a header of its own.")
    name: str = Field(min_length=1, title="Header", description="The header's name.", examples=["X-Api-Key"])
    value: str = Field(
        title="Value", description="A secret, best.", examples=["{{ secrets.api_key }}"], json_schema_extra=TEMPLATE
    )


Auth = Annotated[BearerAuth | BasicAuth | HeaderAuth, Discriminator("type")]


class Retrying(MultipartPart):
    """Repeats of one request within one attempt of the node."""

    max_attempts: int = Field(
        default=3,
        validation_alias=AliasChoices("maxAttempts", "max_attempts"),
        ge=1,
        le=10,
        title="Attempts",
        description="How often a request is sent at most, the first time included.",
        examples=[3],
    )
    backoff_s: float = Field(
        default=1.0,
        validation_alias=AliasChoices("backoffS", "backoff_s"),
        ge=0,
        le=600,
        title="Pause (s)",
        description="The first pause; each one doubles. `Retry-After` goes before it.",
        examples=[1],
    )
    max_wait_s: float = Field(
        default=60.0,
        validation_alias=AliasChoices("maxWaitS", "max_wait_s"),
        ge=0,
        le=3600,
        title="Longest pause (s)",
        description="A target that asks for more time is not asked again.",
        examples=[60],
    )
    any_method: bool = Field(
        default=False,
        validation_alias=AliasChoices("anyMethod", "any_method"),
        title="Repeat every method",
        description="Also POST and PATCH, which may then happen twice where the target does not heed `Idempotency-Key`.",
        examples=[True],
    )


class Wanted(MultipartPart):
    """What is made of the answer."""

    kind: Kind = Field(
        default="auto",
        title="Kind",
        description="How the body is read. `auto` goes by its Content-Type; what is neither JSON nor text comes as base64.",
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


class Paging(MultipartPart):
    """How to come to the next page, by `Link` header, by an address in the body, or by a cursor. Paths are like `meta.next`."""

    by: Literal["link", "url", "cursor"] = Field(
        title="By",
        description="`link`: the header `Link` with rel=next. `url`: an address in the body. `cursor`: a value in the body "
        "that the next request sends back.",
        examples=["link"],
    )
    path: str | None = Field(
        None,
        min_length=1,
        title="Path",
        description="Where the address or the cursor stands in the body.",
        examples=["meta.next_cursor"],
    )
    parameter: str = Field(
        "cursor",
        min_length=1,
        title="Parameter",
        description="The query parameter that takes the cursor.",
        examples=["cursor"],
    )
    items: str | None = Field(
        None,
        min_length=1,
        title="Items",
        description="Where the list of a page stands in its body; unset: the body is the list.",
        examples=["data"],
    )
    limit: int = Field(
        10, ge=1, le=1000, title="Most pages", description="How many pages are read at most.", examples=[10]
    )

    @model_validator(mode="after")
    def _path_is_given(self) -> Self:
        if self.by != "link" and self.path is None:
            raise ValueError(f"pages by {self.by} need a `path`: where it stands in the body")
        return self
