"""The file in which whoever hosts Treadle lists models, MCP servers and databases: `treadle.toml`. Read at start, once.

A bad file is one clear line. `${NAME}` in a text stands for an environment variable, and is looked up when the thing is used.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

FILE = "treadle.toml"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class CatalogError(Exception):
    """The file cannot be used; reads as one line."""


class CatalogEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class McpServer(CatalogEntry):
    """`[mcp.<name>]`: a program that speaks MCP on its standard streams, or the address of one that speaks it over HTTP."""

    command: str | None = Field(None, min_length=1, description="the program of a server on standard streams")
    args: list[str] = Field([], description="its arguments")
    env: dict[str, str] = Field({}, description="its environment, beside PATH, HOME and the like")
    cwd: Path | None = Field(None, description="the folder it starts in")
    url: str | None = Field(None, pattern=r"^https?://", description="the address of a server over streamable HTTP")
    headers: dict[str, str] = Field({}, description="sent with each request")
    tools: list[str] | None = Field(None, description="the tools that are taken over; unset: all")
    required_scopes: list[str] = Field([], description="what a caller must hold to use its tools")
    start_timeout_s: float = Field(20, gt=0, le=600, description="how long it may take to be ready")
    timeout_s: float = Field(60, gt=0, le=3600, description="how long one call may take")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either `command` or `url`")
        return self


class SqlDatabase(CatalogEntry):
    """`[sql.<name>]`: a database that the tool `sql:<name>` reads. Give it a role that can read what it should, and no more."""

    url: str = Field(min_length=1, description="postgresql://…")
    description: str = Field("", description="what is in it, for people and models")
    required_scopes: list[str] = Field(["admin"], description="what a caller must hold to read it")
    timeout_s: float = Field(10, gt=0, le=600, description="how long a query may take")
    max_rows: int = Field(1000, ge=1, le=100_000, description="rows that a query may give")


class Price(CatalogEntry):
    """In USD per million tokens."""

    input: float = Field(ge=0, description="of what is sent")
    output: float = Field(ge=0, description="of what comes back")
    cached_input: float | None = Field(None, ge=0, description="of what the provider had in its cache; unset: as input")


Capability = Literal["text", "structured_output", "tools", "vision"]


class ModelEntry(CatalogEntry):
    """`[[models]]`: one model that nodes may use, by its name here. docs/models.md shows the usual ones."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$", description="what nodes call it")
    model: str | None = Field(None, min_length=1, description="what its provider calls it; unset: the same")
    provider: str = Field(
        "openai",
        pattern=r"^[a-z0-9_]{1,50}$",
        description="`openai` for every endpoint that speaks its chat-completions protocol, or another one of LangChain",
    )
    base_url: str | None = Field(
        None, pattern=r"^(https?://|\$\{)", description="the endpoint; unset: the provider's own"
    )
    api_key: str | None = Field(
        None, min_length=1, repr=False, description="the key, as ${NAME} of an environment variable"
    )
    api_key_secret: str | None = Field(None, min_length=1, description="the project's secret that holds the key")
    description: str = Field("", description="for people")
    context_window: int | None = Field(None, ge=1, description="tokens that fit, question and answer together")
    price: Price | None = Field(None, description="unset: the cost of a call is not known")
    capabilities: tuple[Capability, ...] = Field(
        ("text", "structured_output", "tools"), description="what it can do, for those who choose one"
    )
    structured_output: Literal["json_schema", "function_calling", "prompt"] | None = Field(
        None, description="how it is asked for JSON; unset: json_schema with openai, else function_calling"
    )
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] | None = Field(
        None, description="the name of the limit on the wire; unset: max_tokens where base_url is set (openai alone)"
    )
    connect_timeout_s: float = Field(10, gt=0, le=300, description="how long connecting may take")
    timeout_s: float = Field(120, gt=0, le=3600, description="how long it may say nothing")
    check: bool = Field(True, description="whether `models` asks the endpoint if it is there")
    options: dict[str, Any] = Field({}, description="more arguments of LangChain's class for this provider")

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Self:
        if self.name.startswith("treadle/"):
            raise ValueError("names that begin with treadle/ are built in")
        if self.api_key is not None and self.api_key_secret is not None:
            raise ValueError("give either `api_key` or `api_key_secret`")
        return self


class CatalogFile(CatalogEntry):
    models: list[ModelEntry] = []
    mcp: dict[Name, McpServer] = {}
    sql: dict[Name, SqlDatabase] = {}

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        names = [model.name for model in self.models]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"there are two models named {twice[0]!r}")
        return self


def read_catalog(path: Path | None) -> CatalogFile:
    """The file at `path`; without one, `treadle.toml` of this folder if it is there. Raises CatalogError."""
    where = Path(FILE) if path is None else path
    try:
        return CatalogFile.model_validate(tomllib.loads(where.read_text("utf-8")))
    except FileNotFoundError:
        if path is None:
            return CatalogFile()
        raise CatalogError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as wrong:
        raise CatalogError(f"{where}: {wrong}") from wrong
    except ValidationError as wrong:
        raise CatalogError(
            f"{where}: {'; '.join(_told(error['loc'], error['msg']) for error in wrong.errors())}"
        ) from None


def with_models(catalog: CatalogFile, listed: str) -> CatalogFile:
    """The catalog and the models of a JSON list, as TREADLE_MODELS gives them. Raises CatalogError."""
    if not listed.strip():
        return catalog
    try:
        models = TypeAdapter(list[ModelEntry]).validate_json(listed)
        return CatalogFile(models=[*catalog.models, *models], mcp=catalog.mcp, sql=catalog.sql)
    except ValidationError as wrong:
        told = "; ".join(_told(error["loc"], error["msg"]) for error in wrong.errors())
        raise CatalogError(f"TREADLE_MODELS: {told}") from None


def _told(place: tuple[int | str, ...], message: str) -> str:
    """Without the value: it may be a key."""
    said = message.removeprefix("Value error, ")
    return f"{'.'.join(str(part) for part in place)}: {said}" if place else said


def from_environment(text: str) -> str:
    """The text with its `${NAME}`s replaced. Raises CatalogError for one that is not set."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise CatalogError(f"the environment variable {match[1]} is not set")
        return found

    return _VARIABLE.sub(value, text)


def as_written(text: str, *sources: str) -> str:
    """The text with what `sources` took from the environment as they name it: it may be a key, and text goes to authors."""
    for name in {name for source in sources for name in _VARIABLE.findall(source)}:
        if value := os.environ.get(name):
            text = text.replace(value, f"${{{name}}}")
    return text
