"""validateSpec warns about unknown models and tools without calling a server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.catalog_file import CatalogFile, McpServer, ModelEntry
from engine.nodes.resources import ResourceOptions, open_resources
from resolvers.context import Context
from schema.schema import schema

QUERY = """query ($spec: JSON!) { validateSpec(spec: $spec) {
    ok errors { code } warnings { field code message nodeId severity } } }"""
NO_PROGRAM = "/no/such/program"


@pytest.fixture
async def with_catalog(context: Context) -> AsyncIterator[Context]:
    catalog = CatalogFile(
        models=[ModelEntry(name="fast", base_url="http://127.0.0.1:1/v1")],
        mcp={"some": McpServer(command=NO_PROGRAM, tools=["find"]), "any": McpServer(command=NO_PROGRAM)},
    )
    async with open_resources(ResourceOptions(sandbox_ready=0, catalog=catalog), {}) as resources:
        context.resources = resources
        yield context


def llm(model: str, *tools: str) -> dict[str, Any]:
    return {"id": "n", "type": "llm", "config": {"model": model, "prompt": "hi", "tools": list(tools)}}


def tool(name: str) -> dict[str, Any]:
    return {"id": "n", "type": "tool", "config": {"tool": name}}


def mapped(**inside: Any) -> dict[str, Any]:
    return {"id": "n", "type": "map", "config": {"items": "{{ input.list }}", **inside}}


async def warnings_of(context: Context, node: dict[str, Any]) -> list[tuple[str, str, str]]:
    result = await schema.execute(QUERY, {"spec": {"nodes": [node], "edges": []}}, context_value=context)
    assert result.data is not None, result.errors
    report = result.data["validateSpec"]
    assert (report["ok"], report["errors"]) == (True, [])
    assert {(warning["nodeId"], warning["severity"]) for warning in report["warnings"]} <= {("n", "WARNING")}
    return [(warning["field"], warning["code"], warning["message"]) for warning in report["warnings"]]


@pytest.mark.parametrize(
    ("node", "field", "code", "message"),
    [
        (llm("fst"), "nodes[0].config.model", "MODEL_UNKNOWN", "did you mean 'fast'?"),
        (llm("zzz"), "nodes[0].config.model", "MODEL_UNKNOWN", "treadle.toml adds more"),
        (llm("fast", "hash_text", "hsh_text"), "nodes[0].config.tools[1]", "TOOL_UNKNOWN", "did you mean 'hash_text'?"),
        (tool("zzz"), "nodes[0].config.tool", "TOOL_UNKNOWN", "the query `tools` lists them"),
        (tool("mcp:sme/find"), "nodes[0].config.tool", "TOOL_UNKNOWN", "there is no tool 'mcp:sme/find'"),
        (
            mapped(node={"type": "llm", "config": llm("fst")["config"]}),
            "nodes[0].config.node.config.model",
            "MODEL_UNKNOWN",
            "did you mean 'fast'?",
        ),
        (
            mapped(spec={"nodes": [tool("zzz")], "edges": []}),
            "nodes[0].config.spec.nodes[0].config.tool",
            "TOOL_UNKNOWN",
            "there is no tool 'zzz'",
        ),
        (tool("mcp:some/fnd"), "nodes[0].config.tool", "TOOL_UNKNOWN", "did you mean 'mcp:some/find'?"),
    ],
)
async def test_an_unknown_name_is_a_warning(
    with_catalog: Context, node: dict[str, Any], field: str, code: str, message: str
) -> None:
    [warning] = await warnings_of(with_catalog, node)
    assert warning[:2] == (field, code)
    assert message in warning[2]


@pytest.mark.parametrize(
    "node", [llm("fast", "hash_text"), llm("treadle/echo"), tool("mcp:some/find"), tool("mcp:any/whatever")]
)
async def test_a_known_or_possibly_known_name_is_no_warning(with_catalog: Context, node: dict[str, Any]) -> None:
    assert await warnings_of(with_catalog, node) == []


async def test_a_process_without_catalogs_warns_about_nothing(context: Context) -> None:
    assert await warnings_of(context, llm("zzz", "zzz")) == []
