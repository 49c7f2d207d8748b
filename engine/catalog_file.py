"""The catalog file `treadle.toml`: the models, MCP servers and databases of one installation.

Servers and workers read the file once, when they start. An error in it becomes a message of one
line. `${NAME}` in a value is replaced by the environment variable when the value is used, not when
the file is read.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from app.settings import ownership_problem
from engine.invalid_values import sentences

FILE_NAME = "treadle.toml"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class CatalogError(Exception):
    """The catalog file cannot be used. The message is one line."""


class CatalogEntry(BaseModel):
    """Base of all tables of the catalog file. Unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class McpServer(CatalogEntry):
    """`[mcp.<name>]`: an MCP server, either a program on standard streams or a URL."""

    command: str | None = Field(None, min_length=1, description="the program of an MCP server on standard streams")
    args: list[str] = Field([], description="the arguments of `command`")
    env: dict[str, str] = Field(
        {}, description="environment variables of `command`, added to PATH, HOME and similar ones"
    )
    cwd: Path | None = Field(None, description="the working directory of `command`")
    url: str | None = Field(None, pattern=r"^https?://", description="the URL of an MCP server over streamable HTTP")
    headers: dict[str, str] = Field({}, description="HTTP headers of each request")
    tools: list[str] | None = Field(None, description="the names of the tools to offer; unset: all")
    required_scopes: list[str] = Field([], description="the scopes that a caller needs to use its tools")
    start_timeout_s: float = Field(20, gt=0, le=600, description="seconds until the server must be ready")
    timeout_s: float = Field(60, gt=0, le=3600, description="seconds that one call may take")

    @model_validator(mode="after")
    def _has_one_transport(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either `command` or `url`")
        return self


class SqlDatabase(CatalogEntry):
    """`[sql.<name>]`: a database that the tool `sql:<name>` reads.

    The role in the URL should have the right to read the intended tables only.
    """

    url: str = Field(min_length=1, description="postgresql://…")
    description: str = Field("", description="the content of the database, for people and models")
    required_scopes: list[str] = Field(["admin"], description="the scopes that a caller needs to read it")
    timeout_s: float = Field(10, gt=0, le=600, description="seconds that a query may take")
    max_rows: int = Field(1000, ge=1, le=100_000, description="the most rows that a query may return")


class Price(CatalogEntry):
    """Prices of a model in USD per million tokens."""

    input: float = Field(ge=0, description="for input tokens")
    output: float = Field(ge=0, description="for output tokens")
    cached_input: float | None = Field(
        None, ge=0, description="for input tokens from the provider's cache; unset: same as input"
    )


Capability = Literal["text", "structured_output", "tools", "vision"]


class ModelEntry(CatalogEntry):
    """`[[models]]`: one model that nodes may use by its `name`. docs/models.md has examples."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$", description="the name that nodes use")
    model: str | None = Field(None, min_length=1, description="the provider's name for it; unset: same as `name`")
    provider: str = Field(
        "openai",
        pattern=r"^[a-z0-9_]{1,50}$",
        description="`openai` for every endpoint with its chat-completions protocol, or another LangChain provider",
    )
    base_url: str | None = Field(
        None, pattern=r"^(https?://|\$\{)", description="the URL of the endpoint; unset: the provider's own"
    )
    api_key: str | None = Field(
        None, min_length=1, repr=False, description="the API key, as ${NAME} of an environment variable"
    )
    api_key_secret: str | None = Field(
        None, min_length=1, description="the name of the project's secret that contains the API key"
    )
    description: str = Field("", description="a description for people")
    context_window: int | None = Field(None, ge=1, description="the most tokens of input and output together")
    price: Price | None = Field(None, description="prices; unset: the cost of a call is not known")
    capabilities: tuple[Capability, ...] = Field(
        ("text", "structured_output", "tools"), description="the abilities of the model, shown in the model catalog"
    )
    structured_output: Literal["json_schema", "function_calling", "prompt"] | None = Field(
        None, description="the method for JSON output; unset: json_schema with openai, else function_calling"
    )
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] | None = Field(
        None, description="the request's field for the output limit (openai only); unset: max_tokens if base_url is set"
    )
    connect_timeout_s: float = Field(10, gt=0, le=300, description="seconds that a connection attempt may take")
    timeout_s: float = Field(120, gt=0, le=3600, description="seconds without a byte of the response")
    check: bool = Field(True, description="whether the query `models` checks that the endpoint responds")
    options: dict[str, Any] = Field({}, description="more arguments for LangChain's class of this provider")

    @model_validator(mode="after")
    def _has_valid_name_and_key(self) -> Self:
        if self.name.startswith("treadle/"):
            raise ValueError("names that begin with treadle/ are reserved for built-in models")
        if self.api_key is not None and self.api_key_secret is not None:
            raise ValueError("give either `api_key` or `api_key_secret`")
        return self


class CatalogFile(CatalogEntry):
    """The whole catalog file."""

    models: list[ModelEntry] = []
    mcp: dict[Name, McpServer] = {}
    sql: dict[Name, SqlDatabase] = {}

    @model_validator(mode="after")
    def _has_unique_names(self) -> Self:
        names = [model.name for model in self.models]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"there are two models named {duplicates[0]!r}")
        return self


def read_catalog(path: Path | None) -> CatalogFile:
    """Read the catalog file.

    Args:
        path: The file, which must exist. None means `treadle.toml` in the current folder, or an
            empty catalog.

    Raises:
        CatalogError: The file does not exist, cannot be read, or has an error.
    """
    source = Path(FILE_NAME) if path is None else path
    if path is None and (problem := ownership_problem(source)) is not None:
        raise CatalogError(f"{source.absolute()} {problem}, or set TREADLE_CATALOG_FILE")
    try:
        return CatalogFile.model_validate(tomllib.loads(source.read_text("utf-8")))
    except FileNotFoundError:
        if path is None:
            return CatalogFile()
        raise CatalogError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{source}: {error}") from error
    except ValidationError as error:
        raise CatalogError(f"{source}: {sentences(error)}") from None


def add_models(catalog: CatalogFile, models_json: str) -> CatalogFile:
    """Add the models of a JSON list, the value of TREADLE_MODELS, to a catalog.

    Raises:
        CatalogError: The text is not a list of models, or a name is used twice.
    """
    if not models_json.strip():
        return catalog
    try:
        models = TypeAdapter(list[ModelEntry]).validate_json(models_json)
        return CatalogFile(models=[*catalog.models, *models], mcp=catalog.mcp, sql=catalog.sql)
    except ValidationError as error:
        raise CatalogError(f"TREADLE_MODELS: {sentences(error)}") from None


def expand_variables(text: str) -> str:
    """Replace each `${NAME}` in a text by the value of that environment variable.

    Raises:
        CatalogError: A variable is not set.
    """

    def value_of(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise CatalogError(f"the environment variable {match[1]} is not set")
        return value

    return _VARIABLE.sub(value_of, text)


def variable_values(*sources: str) -> list[str]:
    """Return the values of all variables that `sources` name. A variable that is not set has none."""
    names = dict.fromkeys(name for source in sources for name in _VARIABLE.findall(source))
    return [value for name in names if (value := os.environ.get(name))]


def hide_variables(text: str, *sources: str) -> str:
    """Replace the values of all variables that `sources` name by `${NAME}` in a text.

    Such a value may be an API key, and the text, an error message of a server for example, is shown
    to authors. Case is ignored, because hosts are written in lower case.
    """
    for name in {name for source in sources for name in _VARIABLE.findall(source)}:
        if value := os.environ.get(name):
            text = re.sub(re.escape(value), f"${{{name}}}", text, flags=re.IGNORECASE)
    return text
