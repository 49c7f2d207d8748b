"""Tools of packages: working, failing and broken ones, and when libraries are imported."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.tools.catalog import Tools, open_tools
from tests.engine.node_runner import NodeHarness
from tests.engine.tools.tool_nodes import call, failure

PLUGIN = '''
import asyncio
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool, ToolException, tool

@tool
def shout(text: str, times: int = 1) -> str:
    """Shouts."""
    return text.upper() * times

@tool
async def slow() -> str:
    """Takes its time."""
    await asyncio.sleep(60)

@tool
def rude() -> str:
    """Raises."""
    raise RuntimeError("go away")

@tool
def polite() -> str:
    """Declines."""
    raise ToolException("not today")

@tool
def odd() -> object:
    """Gives a value that is no JSON."""
    return object()

@tool
def key(config: RunnableConfig) -> str:
    """Gives the idempotency key."""
    return config["metadata"]["idempotency_key"]

def make_tool(name, **more):
    return StructuredTool.from_function(lambda: "in", name=name, description="In.", **more)

hash_text = make_tool("hash_text")
listed = [shout, slow, rude, polite]
def made():
    return [odd, key, make_tool("guarded", metadata={"required_scopes": ["vault"]})]
'''


@pytest.fixture
async def package_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tools]:
    (tmp_path / "tool_plugin.py").write_text(PLUGIN)
    info = tmp_path / "tool_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tool-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[treadle.tools]\nlisted = tool_plugin:listed\nmade = tool_plugin:made\nhash = tool_plugin:hash_text\n"
        "gone = tool_plugin:gone\nstrange = tool_plugin:PLUGIN_NAME\nnone = no_such_module:x\nfive = math:pi\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    async with open_tools({}) as opened:
        yield opened
    sys.modules.pop("tool_plugin", None)


async def test_a_package_adds_tools_and_a_broken_one_is_listed(package_tools: Tools) -> None:
    infos = {info.name: info for info in await package_tools.listed() if info.origin == "python"}
    assert {name for name, info in infos.items() if info.problem is None} == {
        "shout",
        "slow",
        "rude",
        "polite",
        "odd",
        "key",
        "guarded",
    }
    assert "no_such_module" in (infos["none"].problem or "")
    assert "TypeError" in (infos["five"].problem or "")
    assert infos["hash_text"].problem == "there is a tool 'hash_text' already"
    assert infos["shout"].parameters["required"] == ["text"]
    assert await call(package_tools, "shout", {"text": "hey", "times": 2}) == "HEYHEY"
    assert infos["key"].parameters["properties"] == {}
    assert await call(package_tools, "key", {}) == "run_1/0/n/1"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("rude", "TOOL_FAILED", "rude raised RuntimeError: go away"),
        ("polite", "TOOL_FAILED", "polite: not today"),
        ("odd", "TOOL_FAILED", "a value that is no JSON"),
        ("slow", "TIMEOUT", "slow did not finish within 0.2 s"),
        ("guarded", "TOOL_FORBIDDEN", "needs the scopes vault"),
        ("none", "TOOL_FAILED", "the tool 'none' cannot be used: no_such_module:x: ModuleNotFoundError"),
    ],
)
async def test_a_tool_of_a_package_that_fails_is_a_clear_error(
    package_tools: Tools, name: str, code: str, message: str
) -> None:
    failed = await failure(package_tools, name, {}, timeout_s=0.2)
    assert (failed.code, message in failed.message) == (code, True), failed.message


async def test_the_scope_or_admin_allows_a_guarded_tool(package_tools: Tools) -> None:
    for scope in ("vault", "admin"):
        harness = NodeHarness()
        harness.context.scopes = frozenset([scope])
        assert await package_tools.call("guarded", {}, harness.context) == "in"


async def test_a_cancelled_tool_ends(package_tools: Tools) -> None:
    calling = asyncio.create_task(call(package_tools, "slow", {}))
    await asyncio.sleep(0)
    calling.cancel()
    async with asyncio.timeout(2):
        await asyncio.gather(calling, return_exceptions=True)
    assert calling.cancelled()


def test_slow_libraries_are_imported_only_when_needed() -> None:
    """The list of types and the start of a server must not wait for slow imports."""
    program = (
        "import sys, engine.nodes.registry, engine.tools.catalog\n"
        "engine.nodes.registry.load_node_types()\n"
        "heavy = ('mcp', 'langchain_mcp_adapters', 'langchain_openai', 'openai', 'langchain_text_splitters', 're2', 'jmespath')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
