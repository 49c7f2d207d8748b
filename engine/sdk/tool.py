"""The protocol of a tool. Tool nodes, agents and code nodes call tools.

Packages add tools by the entry point `treadle.tools`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from engine.sdk.node import NodeContext
from engine.types import JSON

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """The catalog entry of a tool.

    `parameters` is the JSON Schema of an object. `origin` is `builtin`, `python` or `mcp:<server>`.
    `problem` is set if the tool cannot be called now. If a whole package or server cannot be
    loaded, there is one entry with the name of the package or server and a problem.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    origin: str
    required_scopes: frozenset[str] = frozenset()
    problem: str | None = None
    is_transient: bool = False
    """Whether `problem` may go away without a change of the tool, such as a busy machine."""

    @property
    def identifier(self) -> str:
        """The name in code and for models: `mcp_search_find_all` for `mcp:search/find-all`."""
        return _NOT_IN_NAMES.sub("_", self.name).strip("_")


class ToolFailed(Exception):
    """The tool ran and refused the call. The message is a sentence for people.

    Args:
        message: The reason.
        retryable: Whether another attempt may succeed.
    """

    def __init__(self, message: str = "", *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class Tool(Protocol):
    """A tool.

    Its arguments are checked against its schema first. A cancelled node cancels the call.
    """

    @property
    def info(self) -> ToolInfo:
        """The catalog entry."""
        ...

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        """Call the tool.

        Args:
            arguments: An object that matches the schema `info.parameters`.
            ctx: The context of the calling node.

        Returns:
            JSON, or a value that pydantic converts to JSON.

        Raises:
            ToolFailed: The tool refused the call.
            NodeFailure: The call failed with a code. Other exceptions mean a bug in the tool.
        """
        ...
