"""Tools of installed packages, by the entry point `treadle.tools`: any LangChain tool, a list of them, or what makes one.

A package that cannot be loaded takes nobody along: it stands in the catalog with what is wrong. A tool that is no coroutine runs
in a thread, which nothing can stop: a cancelled node lets go of it.
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
    """`metadata={"required_scopes": [...]}` on the tool says what its caller must hold."""

    def __init__(self, tool: BaseTool) -> None:
        scopes = (tool.metadata or {}).get("required_scopes", ())
        self.info = ToolInfo(tool.name, tool.description, _parameters(tool), ORIGIN, frozenset(scopes))
        self._tool = tool

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        facts = {"run_id": ctx.run_id, "node_id": ctx.node_id, "idempotency_key": ctx.idempotency_key}
        try:
            result = await self._tool.ainvoke(arguments, {"metadata": facts})
            return to_jsonable_python(result, bytes_mode="base64", inf_nan_mode="constants")
        except ToolException as told:
            raise ToolFailed(str(told)) from told
        except PydanticSerializationError as wrong:
            raise ToolFailed(f"it returned something that is no JSON: {wrong}") from wrong


def _parameters(tool: BaseTool) -> dict[str, Any]:
    found: dict[str, Any] = convert_to_openai_tool(tool)["function"]["parameters"]
    if wrong := check_schema(found, "parameters"):
        raise TypeError(f"{wrong[0].field}: {wrong[0].message}")
    return found


def python_tools() -> Iterator[PythonTool | ToolInfo]:
    """A tool each, or the ToolInfo of one that cannot be loaded."""
    for entry in entry_points(group=GROUP):
        try:
            yield from [PythonTool(tool) for tool in _loaded(entry)]
        except (Exception, SystemExit) as fault:  # whatever a stranger's module raises when it is imported
            description = "A package that could not be loaded."
            yield ToolInfo(entry.name, description, {}, ORIGIN, problem=load_error(entry, fault))


def _loaded(entry: EntryPoint) -> list[BaseTool]:
    found = entry.load()
    if not isinstance(found, BaseTool | list | tuple):
        found = found()
    tools = list(found) if isinstance(found, list | tuple) else [found]
    for tool in tools:
        if not isinstance(tool, BaseTool):
            raise TypeError(f"{tool!r:.80} is no LangChain tool")
    return tools
