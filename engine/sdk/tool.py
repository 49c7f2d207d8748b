"""What a tool is, to those who offer one and to those who call one: `tool` nodes, agents and code."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from engine.sdk.node import NodeContext
from engine.types import JSON

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """`parameters` is a JSON Schema of an object; `origin` is `builtin`, `python` or `mcp:<server>`.

    `problem` says why the tool cannot be called now; its name then stands for whatever could not be loaded.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    origin: str
    required_scopes: frozenset[str] = frozenset()
    problem: str | None = None
    is_passing: bool = False
    """The problem says nothing of the tool itself: a little later it may be gone."""

    @property
    def identifier(self) -> str:
        """The name as code and models can write it: `mcp:search/find-all` is `mcp_search_find_all`."""
        return _NOT_IN_NAMES.sub("_", self.name).strip("_")


class ToolFailed(Exception):
    """The tool was called and says no; reads as a sentence."""


class Tool(Protocol):
    """One tool. It is called with arguments that fit its schema, and stopped by a cancel."""

    @property
    def info(self) -> ToolInfo: ...

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        """JSON, or whatever pydantic can make JSON of. Raises ToolFailed, NodeFailure, or anything that is a fault of its own."""
        ...
