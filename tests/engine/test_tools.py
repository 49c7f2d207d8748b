"""The catalog of tools, the built-in ones, and `tool` nodes."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.catalog_file import CatalogError, from_environment, read_catalog
from engine.nodes.base import NodeFailure, Output
from engine.schemas import check_schema
from engine.tools.base import ToolInfo
from engine.tools.catalog import Tools, open_tools
from tests.engine.given import Given


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    async with open_tools({}) as opened:
        yield opened


async def call(tools: Tools, name: str, arguments: Any, **more: Any) -> Any:
    return await tools.call(name, arguments, Given().context, **more)


async def failure(tools: Tools, name: str, arguments: Any, **more: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as failed:
        await call(tools, name, arguments, **more)
    return failed.value


ORDERS = [{"id": 1, "total": 5}, {"id": 2, "total": 20}]
WORKS: list[tuple[str, dict[str, Any], Any]] = [
    ("json_query", {"data": ORDERS, "expression": "[?total > `10`].id"}, [2]),
    ("json_query", {"data": {"a": 1}, "expression": "b"}, None),
    ("json_query", {"data": None, "expression": "length(@)"}, NodeFailure),
    (
        "regex_find",
        {"text": "a@b, c@d", "pattern": r"(?P<who>\w)@(\w)", "limit": 1},
        [{"match": "a@b", "start": 0, "end": 3, "groups": ["a", "b"], "named": {"who": "a"}}],
    ),
    (
        "regex_find",
        {"text": "grün", "pattern": "n$"},
        [{"match": "n", "start": 3, "end": 4, "groups": [], "named": {}}],
    ),
    (
        "regex_replace",
        {"text": "2030-01-31", "pattern": r"(\d+)-(\d+)-(\d+)", "replacement": r"\3.\2.\1"},
        "31.01.2030",
    ),
    ("csv_parse", {"text": 'a,b\n1,"x, y"\n\n2,z\n'}, [{"a": "1", "b": "x, y"}, {"a": "2", "b": "z"}]),
    ("csv_parse", {"text": "1;2", "delimiter": ";", "header": False}, [["1", "2"]]),
    ("csv_parse", {"text": ""}, []),
    ("math_evaluate", {"expression": "round(price * 1.19, 2)", "variables": {"price": 10}}, 11.9),
    ("math_evaluate", {"expression": "2 ** 10 + sqrt(16)"}, 1028.0),
    ("math_evaluate", {"expression": "1 < 2"}, True),
    ("hash_text", {"text": "abc"}, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("hash_text", {"text": "abc", "algorithm": "md5", "encoding": "base64"}, "kAFQmDzST7DWlj99KOF/cg=="),
    (
        "hash_text",
        {"text": "what do ya want for nothing?", "key": "Jefe"},
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    ("base64_encode", {"text": "grüße"}, "Z3LDvMOfZQ=="),
    ("base64_encode", {"text": "??>", "url_safe": True}, "Pz8-"),
    ("base64_decode", {"text": "Z3LD vMOfZQ"}, "grüße"),
    ("base64_decode", {"text": "Pz8-"}, "??>"),
    ("datetime_shift", {"moment": "2030-01-31T09:00:00Z", "days": 1, "hours": -1.5}, "2030-02-01T07:30:00Z"),
    (
        "datetime_difference",
        {"start": "2030-01-01", "end": "2030-01-02T12:00:00+00:00"},
        {"seconds": 129600.0, "days": 1.5},
    ),
    (
        "datetime_format",
        {"moment": "2030-07-01T12:00:00Z", "format": "%d.%m.%Y %H:%M", "timezone": "Europe/Berlin"},
        "01.07.2030 14:00",
    ),
    ("text_split", {"text": "one two. three four.", "size": 10}, ["one two.", "three", "four."]),
    ("text_split", {"text": ""}, []),
    ("text_split", {"text": "# A\n\na\n\n# B\n\nb", "size": 8, "format": "markdown"}, ["# A\n\na", "# B\n\nb"]),
]
assert len(WORKS) == 25


@pytest.mark.parametrize(("name", "arguments", "result"), WORKS)
async def test_a_tool_gives_what_it_says(tools: Tools, name: str, arguments: dict[str, Any], result: Any) -> None:
    if result is NodeFailure:
        assert (await failure(tools, name, arguments)).code == "TOOL_FAILED"
    else:
        assert await call(tools, name, arguments) == result


async def test_the_time_is_told(tools: Tools) -> None:
    assert (await call(tools, "datetime_now", {})).endswith("Z")
    assert "+09:00" in await call(tools, "datetime_now", {"timezone": "Asia/Tokyo"})


BAD_INPUT: list[tuple[str, Any, str, str]] = [
    ("no_such_tool", {}, "TOOL_UNKNOWN", "the query `tools` lists them"),
    ("jsonquery", {}, "TOOL_UNKNOWN", "did you mean 'json_query'"),
    ("mcp:nowhere/x", {}, "TOOL_UNKNOWN", "there is no tool 'mcp:nowhere/x'"),
    ("hash_text", [], "TOOL_ARGUMENTS", "must be an object"),
    ("hash_text", {}, "TOOL_ARGUMENTS", '"text" is a required property'),
    ("hash_text", {"text": 7}, "TOOL_ARGUMENTS", "arguments.text"),
    ("hash_text", {"text": "a", "more": 1}, "TOOL_ARGUMENTS", "more"),
    ("hash_text", {"text": "a", "algorithm": "rot13"}, "TOOL_ARGUMENTS", "arguments.algorithm"),
    ("json_query", {"data": 1, "expression": "a["}, "TOOL_FAILED", "json_query: Invalid jmespath expression"),
    ("json_query", {"data": 1, "expression": "[" * 5000}, "TOOL_FAILED", "json_query"),
    (
        "json_query",
        {"data": "x" * 1000, "expression": "|".join(["[@,@]"] * 40)},
        "TOOL_FAILED",
        "takes more than",
    ),
    (
        "regex_find",
        {"text": "a", "pattern": "(?=a)"},
        "TOOL_FAILED",
        "the pattern cannot be used: invalid perl operator",
    ),
    ("regex_find", {"text": "a", "pattern": "("}, "TOOL_FAILED", "missing )"),
    ("regex_find", {"text": "a", "pattern": "((a{1000}){1000}){1000}"}, "TOOL_FAILED", "cannot be used"),
    (
        "regex_replace",
        {"text": "a", "pattern": "a", "replacement": r"\7"},
        "TOOL_FAILED",
        "the replacement cannot be used",
    ),
    (
        "regex_replace",
        {"text": "a" * 1_000_000, "pattern": "a", "replacement": "b" * 10_000},
        "TOOL_FAILED",
        "takes more than",
    ),
    ("csv_parse", {"text": "a,b\n1\n"}, "TOOL_FAILED", "row 2 has 1 values, and the header 2"),
    ("csv_parse", {"text": "a,a\n1,2\n"}, "TOOL_FAILED", "names a column twice: 'a'"),
    ("csv_parse", {"text": 'a\n"b'}, "TOOL_FAILED", "this is no CSV"),
    ("csv_parse", {"text": "a", "delimiter": "ab"}, "TOOL_ARGUMENTS", "arguments.delimiter"),
    ("math_evaluate", {"expression": "1 / 0"}, "TOOL_FAILED", "division by zero"),
    ("math_evaluate", {"expression": "2 ** 100"}, "TOOL_FAILED", "whole number beyond 64 bits"),
    ("json_query", {"data": {}, "expression": "(" * 5000}, "TOOL_FAILED", "nested too deeply"),
    ("base64_decode", {"text": "é"}, "TOOL_FAILED", "this is no base64"),
    ("math_evaluate", {"expression": "1 +"}, "TOOL_FAILED", "cannot be calculated"),
    ("math_evaluate", {"expression": "9**9**9**9"}, "TOOL_FAILED", "cannot be calculated"),
    ("math_evaluate", {"expression": "'a' * 10"}, "TOOL_FAILED", "gives no number"),
    ("math_evaluate", {"expression": "__import__('os')"}, "TOOL_FAILED", "cannot be calculated"),
    ("math_evaluate", {"expression": "(1).__class__"}, "TOOL_FAILED", "cannot be calculated"),
    ("math_evaluate", {"expression": "(-1) ** 0.5"}, "TOOL_FAILED", "gives no number"),
    ("math_evaluate", {"expression": "1e308 * 10"}, "TOOL_FAILED", "gives no number"),
    ("math_evaluate", {"expression": "-" * 900 + "1"}, "TOOL_FAILED", ""),
    ("base64_decode", {"text": "?"}, "TOOL_FAILED", "this is no base64"),
    ("base64_decode", {"text": "/w=="}, "TOOL_FAILED", "no UTF-8 text"),
    ("datetime_now", {"timezone": "Mars/Olympus"}, "TOOL_FAILED", "there is no time zone 'Mars/Olympus'"),
    ("datetime_now", {"timezone": "../../etc/passwd"}, "TOOL_FAILED", "there is no time zone"),
    ("datetime_shift", {"moment": "tomorrow"}, "TOOL_FAILED", "is no date and time"),
    ("datetime_shift", {"moment": "9999-12-31", "days": 1e9}, "TOOL_FAILED", "out of range"),
    ("text_split", {"text": "a", "size": 10, "overlap": 9}, "TOOL_FAILED", "more than half"),
    ("text_split", {"text": "a" * 1_000_001}, "TOOL_ARGUMENTS", "arguments.text"),
]


@pytest.mark.parametrize(("name", "arguments", "code", "message"), BAD_INPUT)
async def test_bad_input_is_a_clear_error(tools: Tools, name: str, arguments: Any, code: str, message: str) -> None:
    async with asyncio.timeout(10):
        failed = await failure(tools, name, arguments)
    assert (failed.code, message in failed.message) == (code, True), failed.message


async def test_a_pattern_that_backtracks_elsewhere_takes_linear_time(tools: Tools) -> None:
    async with asyncio.timeout(5):
        assert await call(tools, "regex_find", {"text": "a" * 100_000, "pattern": "(a*)*b"}) == []


async def test_every_tool_can_be_offered_to_a_model(tools: Tools) -> None:
    for info in await tools.listed():
        assert info.description and info.origin == "builtin" and info.problem is None
        assert info.name == info.identifier
        assert check_schema(dict(info.parameters), "") == []
        for name, parameter in info.parameters["properties"].items():
            assert parameter["description"], (info.name, name)
    assert [info.name for info in await tools.listed()] == sorted(tools)


def test_a_name_becomes_one_that_code_can_write() -> None:
    assert ToolInfo("mcp:search/find-all", "", {}, "").identifier == "mcp_search_find_all"


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
    """Gives something that is no JSON."""
    return object()

@tool
def key(config: RunnableConfig) -> str:
    """Gives the idempotency key."""
    return config["metadata"]["idempotency_key"]

def made_of(name, **more):
    return StructuredTool.from_function(lambda: "in", name=name, description="In.", **more)

hash_text = made_of("hash_text")
listed = [shout, slow, rude, polite]
def made():
    return [odd, key, made_of("guarded", metadata={"required_scopes": ["vault"]})]
'''


@pytest.fixture
async def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tools]:
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


async def test_a_package_adds_tools_and_a_broken_one_is_named(plugged: Tools) -> None:
    infos = {info.name: info for info in await plugged.listed() if info.origin == "python"}
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
    assert await call(plugged, "shout", {"text": "hey", "times": 2}) == "HEYHEY"
    assert infos["key"].parameters["properties"] == {}
    assert await call(plugged, "key", {}) == "run_1/0/n/1"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("rude", "TOOL_FAILED", "rude raised RuntimeError: go away"),
        ("polite", "TOOL_FAILED", "polite: not today"),
        ("odd", "TOOL_FAILED", "something that is no JSON"),
        ("slow", "TIMEOUT", "slow did not finish within 0.2 s"),
        ("guarded", "TOOL_FORBIDDEN", "needs the scopes vault"),
        ("none", "TOOL_FAILED", "the tool 'none' cannot be used: no_such_module:x: ModuleNotFoundError"),
    ],
)
async def test_a_tool_of_a_package_that_fails_is_a_clear_error(
    plugged: Tools, name: str, code: str, message: str
) -> None:
    failed = await failure(plugged, name, {}, timeout_s=0.2)
    assert (failed.code, message in failed.message) == (code, True), failed.message


async def test_a_scope_or_admin_opens_a_guarded_tool(plugged: Tools) -> None:
    for scope in ("vault", "admin"):
        given = Given()
        given.context.scopes = frozenset([scope])
        assert await plugged.call("guarded", {}, given.context) == "in"


async def test_a_tool_node_renders_its_arguments(tools: Tools) -> None:
    given = Given({"input": {"orders": ORDERS}}, {"tools": tools})
    config = {"tool": "json_query", "arguments": {"data": "{{ input.orders }}", "expression": "[].id"}}
    assert await given.run("tool", config) == Output([1, 2])
    assert given.context.noted_input == {"data": ORDERS, "expression": "[].id"}


async def test_a_process_without_tools_says_so() -> None:
    with pytest.raises(NodeFailure) as failed:
        await Given().run("tool", {"tool": "json_query"})
    assert failed.value.code == "TOOL_UNKNOWN"


async def test_a_cancelled_tool_ends(plugged: Tools) -> None:
    calling = asyncio.create_task(call(plugged, "slow", {}))
    await asyncio.sleep(0)
    calling.cancel()
    async with asyncio.timeout(2):
        await asyncio.gather(calling, return_exceptions=True)
    assert calling.cancelled()


CATALOGS = [
    ("[mcp.a]\ncommand = 'x'\nurl = 'http://x'", "mcp.a: give either `command` or `url`"),
    ("[mcp.a]", "mcp.a: give either `command` or `url`"),
    ("[mcp.a]\nurl = 'ftp://x'", "mcp.a.url: String should match"),
    ("[mcp.'a b']\nurl = 'http://x'", "mcp.a b.[key]: String should match"),
    ("[mcp.a]\nurl = 'http://x'\nheader = 1", "mcp.a.header: Extra inputs"),
    ("[sql.a]\nurl = 'postgresql://x'\nmax_rows = 0", "sql.a.max_rows: Input should be greater"),
    ("[nonsense]\na = 1", "nonsense: Extra inputs"),
    ("[mcp", "Expected ']'"),
]


@pytest.mark.parametrize(("text", "told"), CATALOGS)
def test_a_bad_catalog_file_is_one_line_that_names_the_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text(text)
    with pytest.raises(CatalogError) as wrong:
        read_catalog(path)
    assert str(wrong.value).startswith(f"{path}: ") and told in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_catalog_file_is_found_in_this_folder_and_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_catalog(None).mcp == {}
    Path("treadle.toml").write_text("[mcp.git]\ncommand = 'git-mcp'\n")
    assert read_catalog(None).mcp["git"].command == "git-mcp"
    with pytest.raises(CatalogError, match="there is no such file"):
        read_catalog(tmp_path / "other.toml")


def test_a_text_takes_what_it_needs_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "s3cret")
    assert from_environment("Bearer ${A_KEY} $A_KEY") == "Bearer s3cret $A_KEY"
    with pytest.raises(CatalogError, match="NO_SUCH_KEY is not set"):
        from_environment("${NO_SUCH_KEY}")


def test_heavy_packages_are_loaded_when_they_are_needed() -> None:
    """Listing types, and starting a server, must not wait for clients of models and tool servers."""
    program = (
        "import sys, engine.nodes.registry, engine.tools.catalog\n"
        "engine.nodes.registry.load_node_types()\n"
        "heavy = ('mcp', 'langchain_mcp_adapters', 'langchain_openai', 'openai', 'langchain_text_splitters', 're2', 'jmespath')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
