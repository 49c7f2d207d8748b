"""The tools `sql:<name>`: read-only queries on the databases of the catalog file.

An author or a model writes the query. The database enforces that it only reads
(persistence/sql_databases.py).
"""

from collections.abc import Mapping
from typing import Any, Protocol

from engine.catalog_file import SqlDatabase
from engine.errors import NodeFailure
from engine.sdk.node import NodeContext
from engine.sdk.tool import ToolInfo
from engine.types import JSON


class SqlDatabases(Protocol):
    """The resource `databases`, implemented by persistence/sql_databases.py."""

    async def read(self, name: str, query: str, parameters: list[JSON], max_rows: int) -> list[JSON]:
        """Run a query on the database of this name.

        Returns:
            At most `max_rows + 1` rows, each an object. If there are `max_rows + 1`, the result has
            more rows than `max_rows`.

        Raises:
            ToolFailed: The database refuses the query.
            NodeFailure: The database cannot be used.
        """
        ...


class SqlTool:
    """The tool of one database."""

    def __init__(self, name: str, config: SqlDatabase, databases: SqlDatabases) -> None:
        self._name, self._config, self._databases = name, config, databases
        scopes = frozenset(config.required_scopes)
        self.info = ToolInfo(f"sql:{name}", _description(config), _parameters(config), "builtin", scopes)

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        limit = int(arguments.get("limit", self._config.max_rows))
        rows = await self._databases.read(self._name, arguments["query"], arguments.get("parameters", []), limit)
        return {"rows": rows[:limit], "truncated": len(rows) > limit}


def _description(config: SqlDatabase) -> str:
    return f"Reads a PostgreSQL database with one SELECT. {config.description}".strip()


def _parameters(config: SqlDatabase) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "maxLength": 100_000,
                "description": "One SELECT, with $1, $2 … for the values in `parameters`.",
            },
            "parameters": {
                "type": "array",
                "default": [],
                "maxItems": 1000,
                "description": "The values for $1, $2 …; write `$1::int` if the type is ambiguous.",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": config.max_rows,
                "default": config.max_rows,
                "description": "Maximum number of rows; `truncated` is true if there are more.",
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    }


class NoDatabases:
    """The databases of a process that opens none."""

    async def read(self, name: str, query: str, parameters: list[JSON], max_rows: int) -> list[JSON]:
        raise NodeFailure("TOOL_FAILED", "this process has no access to SQL databases", retryable=True)


def sql_tools(databases: Mapping[str, SqlDatabase], connections: SqlDatabases | None) -> list[SqlTool]:
    """Return a tool for each database of the catalog file."""
    return [SqlTool(name, config, connections or NoDatabases()) for name, config in databases.items()]
