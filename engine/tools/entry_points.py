"""Loads tools of packages by the entry point `treadle.tools`.

An entry point is a LangChain tool, a list of them, or a function that returns either. A package
that cannot be loaded does not affect the others: the catalog lists it with its problem. A tool
that is no coroutine runs in a thread, which cannot be stopped: after a cancel it runs on, and its
result is dropped.
"""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from langchain_core.tools import BaseTool, ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic_core import PydanticSerializationError, to_jsonable_python

from engine.sdk.node import NodeContext
from engine.sdk.plugins import load_error
from engine.sdk.tool import ToolFailed, ToolInfo
from engine.types import JSON
from engine.values.json_schema import check_schema

GROUP = "treadle.tools"
ORIGIN = "python"


class PythonTool:
    """A LangChain tool.

    Its `metadata={"required_scopes": [...]}` are the scopes that a call requires.
    """

    def __init__(self, tool: BaseTool) -> None:
        scopes = (tool.metadata or {}).get("required_scopes", ())
        self.info = ToolInfo(tool.name, tool.description, _parameters(tool), ORIGIN, frozenset(scopes))
        self._tool = tool

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        """Call the tool; it finds run, node and idempotency key in the metadata.

        Raises ToolFailed.
        """
        metadata = {"run_id": ctx.run_id, "node_id": ctx.node_id, "idempotency_key": ctx.idempotency_key}
        try:
            result = await self._tool.ainvoke(arguments, {"metadata": metadata})
            return to_jsonable_python(result, bytes_mode="base64", inf_nan_mode="constants")
        except ToolException as failed:
            # A LangChain tool does not say whether its failure may pass.
            raise ToolFailed(str(failed), retryable=True) from failed
        except PydanticSerializationError as error:
            raise ToolFailed("it returned a value that is no JSON") from error


def _parameters(tool: BaseTool) -> dict[str, Any]:
    schema: dict[str, Any] = convert_to_openai_tool(tool)["function"]["parameters"]
    if problems := check_schema(schema, "parameters"):
        raise TypeError(f"{problems[0].field}: {problems[0].message}")
    return schema


def python_tools() -> Iterator[PythonTool | ToolInfo]:
    """Return the tools, and a ToolInfo with the problem of each entry point that fails to load."""
    for entry in entry_points(group=GROUP):
        try:
            yield from [PythonTool(tool) for tool in _load(entry)]
        except (Exception, SystemExit) as fault:  # third-party code may raise anything
            description = "A package that could not be loaded."
            yield ToolInfo(entry.name, description, {}, ORIGIN, problem=load_error(entry, fault))


def _load(entry: EntryPoint) -> list[BaseTool]:
    """Load the tools of an entry point. May raise anything."""
    loaded = entry.load()
    if not isinstance(loaded, BaseTool | list | tuple):
        loaded = loaded()
    tools = list(loaded) if isinstance(loaded, list | tuple) else [loaded]
    for tool in tools:
        if not isinstance(tool, BaseTool):
            raise TypeError(f"{tool!r:.80} is no LangChain tool")
    return tools
