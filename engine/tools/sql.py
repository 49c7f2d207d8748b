"""`sql:<name>`: reads a database that the catalog file names. The query is text of an author, or of a model; it can only read."""

from collections.abc import Mapping
from typing import Any, Protocol

from engine.catalog_file import SqlDatabase
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolInfo
from engine.types import JSON


class ReadDatabases(Protocol):
    """The resource `databases`. Storage implements it."""

    async def read(self, name: str, query: str, parameters: list[JSON], max_rows: int) -> list[JSON]:
        """At most `max_rows + 1` rows, each an object. Raises ToolFailed or NodeFailure."""
        ...


class SqlTool:
    def __init__(self, name: str, config: SqlDatabase, databases: ReadDatabases) -> None:
        self._name, self._config, self._databases = name, config, databases
        scopes = frozenset(config.required_scopes)
        self.info = ToolInfo(f"sql:{name}", _description(config), _parameters(config), "builtin", scopes)

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        most = int(arguments.get("limit", self._config.max_rows))
        rows = await self._databases.read(self._name, arguments["query"], arguments.get("parameters", []), most)
        return {"rows": rows[:most], "truncated": len(rows) > most}


def _description(config: SqlDatabase) -> str:
    return f"Reads a PostgreSQL database with one SELECT. {config.description}".strip()


def _parameters(config: SqlDatabase) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "maxLength": 100_000,
                "description": "One SELECT; values stand in `parameters`, and $1, $2 … in their place.",
            },
            "parameters": {
                "type": "array",
                "default": [],
                "maxItems": 1000,
                "description": "The values for $1, $2 …; write `$1::int` where the type is not clear.",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": config.max_rows,
                "default": config.max_rows,
                "description": "Rows that are given at most; `truncated` says whether there are more.",
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    }


class NoDatabases:
    """Where a process opens none."""

    async def read(self, name: str, query: str, parameters: list[JSON], max_rows: int) -> list[JSON]:
        raise NodeFailure("TOOL_FAILED", "this process reads no databases", retryable=True)


def sql_tools(databases: Mapping[str, SqlDatabase], reading: ReadDatabases | None) -> list[SqlTool]:
    return [SqlTool(name, config, reading or NoDatabases()) for name, config in databases.items()]
