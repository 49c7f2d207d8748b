"""The built-in tools, and `tool` nodes that call them."""

import asyncio
from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.isolation import suspension
from engine.sdk.node import Output
from engine.sdk.tool import ToolInfo
from engine.tools.catalog import Tools
from engine.values.json_schema import check_schema
from tests.engine.node_runner import NodeHarness
from tests.engine.tools.tool_nodes import call, failure

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
async def test_a_tool_returns_its_result(tools: Tools, name: str, arguments: dict[str, Any], result: Any) -> None:
    if result is NodeFailure:
        assert (await failure(tools, name, arguments)).code == "TOOL_FAILED"
    else:
        assert await call(tools, name, arguments) == result


async def test_datetime_now_returns_the_current_time(tools: Tools) -> None:
    assert (await call(tools, "datetime_now", {})).endswith("Z")
    assert "+09:00" in await call(tools, "datetime_now", {"timezone": "Asia/Tokyo"})


BAD_INPUT: list[tuple[str, Any, str, str]] = [
    ("no_such_tool", {}, "TOOL_UNKNOWN", "the query `tools` lists them"),
    ("jsonquery", {}, "TOOL_UNKNOWN", "did you mean 'json_query'"),
    ("mcp:nowhere/x", {}, "TOOL_UNKNOWN", "there is no tool 'mcp:nowhere/x'"),
    ("hash_text", [], "TOOL_ARGUMENTS", "must be an object"),
    ("hash_text", {}, "TOOL_ARGUMENTS", "must have the member 'text'"),
    ("hash_text", {"text": 7}, "TOOL_ARGUMENTS", "arguments.text"),
    ("hash_text", {"text": "a", "more": 1}, "TOOL_ARGUMENTS", "more"),
    ("hash_text", {"text": "a", "algorithm": "rot13"}, "TOOL_ARGUMENTS", "arguments.algorithm"),
    ("json_query", {"data": 1, "expression": "a["}, "TOOL_FAILED", "`a[` ends too early"),
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
        "`(?=` is not available in RE2",
    ),
    ("regex_find", {"text": "a", "pattern": "("}, "TOOL_FAILED", "a `(` is not closed"),
    ("regex_find", {"text": "a", "pattern": "((a{1000}){1000}){1000}"}, "TOOL_FAILED", "is not valid"),
    (
        "regex_replace",
        {"text": "a", "pattern": "a", "replacement": r"\7"},
        "TOOL_FAILED",
        "must be groups of the pattern",
    ),
    (
        "regex_replace",
        {"text": "a" * 1_000_000, "pattern": "a", "replacement": "b" * 10_000},
        "TOOL_FAILED",
        "takes more than",
    ),
    ("regex_replace", {"text": "a", "pattern": "a", "replacement": "\\"}, "TOOL_FAILED", "a backslash is written"),
    ("json_query", {"data": 1, "expression": "a b"}, "TOOL_FAILED", "has `b` at column 3"),
    ("json_query", {"data": 1, "expression": "'a"}, "TOOL_FAILED", "a quote at column 1 that is not closed"),
    ("json_query", {"data": 1, "expression": "nope(a)"}, "TOOL_FAILED", "calls `nope`, which is no function"),
    ("json_query", {"data": 1, "expression": "length()"}, "TOOL_FAILED", "with 0 arguments: it takes 1 argument"),
    ("json_query", {"data": 1, "expression": "sum(@)"}, "TOOL_FAILED", "with another value than a list of numbers"),
    ("json_query", {"data": [1], "expression": "@[0:1:0]"}, "TOOL_FAILED", "a slice with the step 0"),
    ("regex_find", {"text": "a", "pattern": "[z-a]"}, "TOOL_FAILED", "`z-a` is no valid range"),
    ("regex_find", {"text": "a", "pattern": "(a)\\1"}, "TOOL_FAILED", "has no back references"),
    ("regex_find", {"text": "a", "pattern": "*"}, "TOOL_FAILED", "`*` repeats nothing"),
    ("csv_parse", {"text": "a,b\n1\n"}, "TOOL_FAILED", "row 2 has 1 values, and the header has 2"),
    ("csv_parse", {"text": "a,a\n1,2\n"}, "TOOL_FAILED", "has a column twice: 'a'"),
    ("csv_parse", {"text": 'a\n"b'}, "TOOL_FAILED", "this is no CSV"),
    ("csv_parse", {"text": "a", "delimiter": "ab"}, "TOOL_ARGUMENTS", "arguments.delimiter"),
    ("math_evaluate", {"expression": "1 / 0"}, "TOOL_FAILED", "it divides by zero"),
    ("math_evaluate", {"expression": "a + 1"}, "TOOL_FAILED", "`a` is not defined"),
    ("math_evaluate", {"expression": "sqr(2)"}, "TOOL_FAILED", "there is no function `sqr`"),
    ("math_evaluate", {"expression": "sqrt(-1)"}, "TOOL_FAILED", "a function is not defined for its argument"),
    ("math_evaluate", {"expression": "'a' + 1"}, "TOOL_FAILED", "arguments that do not fit"),
    ("math_evaluate", {"expression": "1 +"}, "TOOL_FAILED", "it is no formula"),
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
    ("datetime_shift", {"moment": "tomorrow"}, "TOOL_FAILED", "is not a timestamp"),
    ("datetime_shift", {"moment": "9999-12-31", "days": 1e9}, "TOOL_FAILED", "out of range"),
    ("text_split", {"text": "a", "size": 10, "overlap": 9}, "TOOL_FAILED", "more than half"),
    ("text_split", {"text": "a" * 1_000_001}, "TOOL_ARGUMENTS", "arguments.text"),
]


@pytest.mark.parametrize(("name", "arguments", "code", "message"), BAD_INPUT)
async def test_bad_input_is_a_clear_error(tools: Tools, name: str, arguments: Any, code: str, message: str) -> None:
    async with asyncio.timeout(10):
        failed = await failure(tools, name, arguments)
    assert (failed.code, message in failed.message) == (code, True), failed.message


async def test_a_pattern_that_backtracks_in_other_engines_takes_linear_time(tools: Tools) -> None:
    async with asyncio.timeout(5):
        assert await call(tools, "regex_find", {"text": "a" * 100_000, "pattern": "(a*)*b"}) == []


async def test_every_tool_can_be_offered_to_a_model(tools: Tools) -> None:
    for info in await tools.listed():
        assert info.description and info.origin == "builtin" and info.problem is None
        assert info.name == info.identifier
        assert await suspension.call(check_schema, dict(info.parameters), "") == []
        for name, parameter in info.parameters["properties"].items():
            assert parameter["description"], (info.name, name)
    assert [info.name for info in await tools.listed()] == sorted(tools)


def test_a_tool_name_becomes_an_identifier() -> None:
    assert ToolInfo("mcp:search/find-all", "", {}, "").identifier == "mcp_search_find_all"


async def test_a_tool_node_renders_its_arguments(tools: Tools) -> None:
    harness = NodeHarness({"input": {"orders": ORDERS}}, {"tools": tools})
    config = {"tool": "json_query", "arguments": {"data": "{{ input.orders }}", "expression": "[].id"}}
    assert await harness.run("tool", config) == Output([1, 2])
    assert harness.context.noted_input == {"data": ORDERS, "expression": "[].id"}


async def test_a_process_without_tools_reports_that() -> None:
    with pytest.raises(NodeFailure) as failed:
        await NodeHarness().run("tool", {"tool": "json_query"})
    assert failed.value.code == "TOOL_UNKNOWN"
