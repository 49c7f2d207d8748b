"""What an expression computes from a secret is hidden whole, by whatever filter, method or syntax."""

import itertools
import json
from collections.abc import Iterator
from typing import ClassVar

import pytest
from pydantic import Field

from engine.expressions import evaluator
from engine.expressions.names import FILTERS, FUNCTIONS, TESTS
from engine.graph.bound_node import BoundNode
from engine.isolation import suspension
from engine.isolation.suspension import suspendable
from engine.runtime.attempts import NodeResult, run_attempts
from engine.sdk.annotations import TEMPLATE
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.spec.model import NodeSpec
from engine.states import LogLevel
from engine.types import JSON
from engine.values.redaction import MARK
from tests.engine.node_runner import NodeHarness
from tests.engine.secret_values import MemorySecrets

SECRETS = {
    "key": "sk-Canary-81kQz0pLw2",
    "number": "8412345678",
    "time": "2026-05-17T08:09:10Z",
    "json": '{"user": "canary-user-5", "no": true, "numbers": [7341, 9902]}',
    "lines": "first canary line\nsecond canary line",
}
_UPPER = "(secrets.key | upper)"
ARGUMENTS: dict[str, str] = {
    "abs": "secrets.number | int | abs",
    "chain": f"[{_UPPER}] | chain(['a']) | list",
    "d": f"input.missing | d({_UPPER})",
    "datetime_difference": "secrets.time | datetime_difference('2020-01-01T00:00:00Z')",
    "datetime_format": "secrets.time | datetime_format('%H:%M:%S on %d.%m.%Y')",
    "datetime_shift": "secrets.time | datetime_shift(days=100)",
    "default": f"input.missing | default({_UPPER})",
    "dictsort": f"{{'k': {_UPPER}}} | dictsort",
    "first": f"[{_UPPER}] | first",
    "float": "secrets.number | float",
    "fromjson": "secrets.json | fromjson",
    "groupby": f"[{{'a': {_UPPER}}}] | groupby('a') | list",
    "int": "secrets.number | int",
    "items": f"{{'k': {_UPPER}}} | items | list",
    "join": "secrets.key | list | join('_')",
    "last": f"[{_UPPER}] | last",
    "lines": "secrets.lines | lines",
    "map": "[secrets.key] | map('upper') | list",
    "max": f"[{_UPPER}] | max",
    "min": f"[{_UPPER}] | min",
    "reject": f"[{_UPPER}] | reject('none') | list",
    "rejectattr": f"[{{'a': {_UPPER}}}] | rejectattr('a', 'none') | list",
    "replace": "secrets.key | replace('-', '+')",
    "round": "secrets.number | float | round(1)",
    "select": f"[{_UPPER}] | select | list",
    "selectattr": f"[{{'a': {_UPPER}}}] | selectattr('a') | list",
    "sort": "secrets.key | list | sort",
    "split": "secrets.key | split('-')",
    "sum": "[secrets.number | int, 1] | sum",
    "unique": "secrets.key | list | unique | list",
    "zip": f"[{_UPPER}] | zip(['a']) | list",
}
"""For each filter that needs more than `secrets.key | filter`: an expression."""
METHOD_ARGUMENTS = {
    "count": "'a'", "endswith": "'a'", "find": "'a'", "format": "1", "get": "'a'", "index": "'a'", "join": "['a', 'b']",
    "partition": "'-'", "removeprefix": "'sk-'", "removesuffix": "'w2'", "replace": "'-', '+'", "rfind": "'a'",
    "rpartition": "'-'", "rsplit": "'-'", "split": "'-'", "startswith": "'a'", "strip": "'s'", "lstrip": "'s'",
    "rstrip": "'2'", "zfill": "40", "center": "40", "ljust": "40", "rjust": "40",
}  # fmt: skip
_WITH_TEXT = TESTS & {
    "startingwith", "endingwith", "in", "sameas", "eq", "equalto", "ne", "lt", "lessthan", "le", "gt", "greaterthan",
    "ge", "<", "<=", ">", ">=", "==", "!=",
}  # fmt: skip
TEST_ARGUMENTS = {"divisibleby": "2", **dict.fromkeys(_WITH_TEXT, "'a'")}
FUNCTION_CALLS = {"dict": f"dict(a={_UPPER})", "range": "range(secrets.number | int - 8412345600)"}
SYNTAX = {
    "a slice": "{{ secrets.key[3:] }}",
    "a step": "{{ secrets.key[::-1] }}",
    "joined texts": "{{ secrets.key[2:] ~ input.word }}",
    "a number": "{{ (secrets.number | int) * 3 + 1 }}",
    "a list": "{{ [secrets.key[1:], [secrets.number | int + 1]] }}",
    "an object": "{{ {'a': {'b': secrets.key | lower}} }}",
    "a choice": "{{ secrets.key | title if input.word else 'none' }}",
    "in a text": "Bearer {{ secrets.key | upper }}, then {{ secrets.key | lower }}.",
    "white space": "a {{- secrets.key | upper -}} b",
    "a loop": "{% for x in [1, 2] %}{{ x }}{{ secrets.key | upper }}{% endfor %}",
    "a loop over a secret": "{% for x in secrets.key | list %}{{ x }}.{% endfor %}",
    "a name": "{% set x = secrets.key | upper %}{{ x }} and {{ x | reverse }}",
    "a block with a name": "{% set x %}{{ secrets.key }}{% endset %}{{ x | upper }}",
    "with": "{% with x = secrets.key | upper %}{{ x }}{% endwith %}",
    "a filter block": "{% filter upper %}{{ secrets.key }}{% endfilter %}",
    "a recursive loop": "{% for x in [['a']] recursive %}{{ secrets.key ~ (loop(x) | upper if x is not string) }}{% endfor %}",
}  # fmt: skip


def _by_test(name: str) -> str:
    """Return an expression that chooses by a test. One of its two lists has the value."""
    arguments = f"'{name}', {TEST_ARGUMENTS[name]}" if name in TEST_ARGUMENTS else f"'{name}'"
    value = "secrets.number | int" if name in ("even", "odd", "divisibleby") else _UPPER
    return f"{{{{ [[{value}] | select({arguments}) | list, [{value}] | reject({arguments}) | list] }}}}"


EXPRESSIONS = {
    **{f"filter {name}": f"{{{{ {ARGUMENTS.get(name, f'secrets.key | {name}')} }}}}" for name in sorted(FILTERS)},
    **{
        f"method {name} of {value}": f"{{{{ {value}.{name}({METHOD_ARGUMENTS.get(name, '')}) }}}}"
        for value, kind in (("secrets.key", str), (f"[{_UPPER}]", list), (f"{{'a': {_UPPER}}}", dict))
        for name in dir(kind)
        if not name.startswith("_")
    },
    **{f"test {name}": _by_test(name) for name in sorted(TESTS)},
    **{f"function {name}": f"{{{{ {FUNCTION_CALLS[name]} }}}}" for name in sorted(FUNCTIONS)},
    **SYNTAX,
}


class EchoConfig(NodeConfig):
    value: JSON = Field(json_schema_extra={"format": TEMPLATE})


class EchoNode(NodeType[EchoConfig]):
    """Reports its value in every way: as it is, in lists and objects, and inside of texts."""

    name: ClassVar[str] = "echo"
    Config: ClassVar[type[NodeConfig]] = EchoConfig

    async def execute(self, config: EchoConfig, ctx: NodeContext) -> Output:
        value = ctx.render(config.value)
        ctx.note_input({"value": value})
        texts = [f"{value} was it", json.dumps({"a": value}), json.dumps([value], separators=(",", ":"))]
        for text in texts:
            ctx.log(LogLevel.INFO, text, value=value)
            ctx.progress(0.5, text)
            for start in range(0, len(text), 3):
                ctx.text(text[start : start + 3])
            ctx.text("\n")
        return Output([value, {"in": {"an object": [value]}}, texts])


async def echo(
    value: JSON, secrets: dict[str, str] | None = None, word: str = "word"
) -> tuple[NodeHarness, NodeResult]:
    harness = NodeHarness({"input": {"word": word}}, {"secrets": MemorySecrets(**(secrets or SECRETS))})
    config = {"value": value}
    kind = EchoNode()
    node = BoundNode(NodeSpec("n", "echo", config=config), kind, EchoConfig(value=value))
    return harness, await suspendable(run_attempts(node, harness.context))


def reported(harness: NodeHarness, result: NodeResult) -> str:
    streamed = "".join(delta.text for delta in harness.deltas)
    return repr((harness.events, harness.messages, streamed, harness.context.noted_input, result.outcome, result.error))


def revealing_parts(value: JSON) -> Iterator[str]:
    """Iterate over the parts of a result from which the secret could be seen."""
    if isinstance(value, str):
        yield from (value[at : at + 8] for at in range(max(len(value) - 7, 1 if len(value) >= 4 else 0)))
    elif isinstance(value, list):
        yield from itertools.chain.from_iterable(map(revealing_parts, value))
        if len(value) > 7:
            yield from (repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, separators=(",", ":"))[1:-1])
    elif isinstance(value, dict):
        yield from revealing_parts(list(value.values()))
    elif not isinstance(value, bool) and value is not None and len(str(value)) >= 4:
        yield str(value)


@pytest.mark.parametrize("name", EXPRESSIONS)
async def test_a_result_of_a_secret_is_hidden_whole(name: str) -> None:
    text = EXPRESSIONS[name]
    harness, result = await echo(text)
    everything = reported(harness, result)
    assert [part for value in SECRETS.values() for part in revealing_parts(value) if part in everything] == []
    try:
        value = await suspension.call(evaluator.render, text, {"secrets": SECRETS, "input": {"word": "word"}})
    except evaluator.ExpressionError:
        assert not name.startswith(("filter", "test", "function"))
        assert result.error is not None
        assert result.error.code == "TEMPLATE"
        return
    assert result.error is None
    parts = [part for part in revealing_parts(value) if part not in ("word", text)]
    assert [part for part in parts if part in everything] == []
    if parts:
        assert MARK in everything


def test_every_filter_has_an_expression_that_gives_a_result() -> None:
    assert ARGUMENTS.keys() <= FILTERS
    scope = {"secrets": SECRETS, "input": {}}
    for name in sorted(FILTERS):
        evaluator.render(EXPRESSIONS[f"filter {name}"], scope)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ secrets.key }}", MARK),
        ("Bearer {{ secrets.key | upper }}.", f"Bearer {MARK}."),
        ("{{ input.word }} {{ 'Bearer ' ~ secrets.key }}", f"word {MARK}"),
        ("{{ secrets.key | list }}", MARK),
        ("{{ secrets.key[:4] }}", MARK),
        ("{{ secrets.key[:2] }}", MARK),
        ("{{ secrets.key | length }}", MARK),
        ("{{ secrets.key == 'x' }}", False),
        ("{{ none if secrets.key }}", None),
        ("{{ 'true' if secrets.key }}", MARK),
        ("{{ input.word }}", "word"),
    ],
)
async def test_the_recorded_input_shows_what_is_no_secret(text: str, shown: JSON) -> None:
    harness, _ = await echo(text)
    assert harness.context.noted_input == {"value": shown}


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("{{ secrets.key[3:7] }}", [MARK, f"the word {MARK}", "the words Canaries"]),
        ("{{ secrets.key[:2] }}", ["sk", "the word sk", "sk"]),
        ("{{ secrets.key | length }}", [20, "the word 20", "the number 20"]),
        ("{{ (secrets.key | length) * 91 }}", [MARK, f"the word {MARK}", "the number 18200"]),
        ("{{ 'true' if secrets.key }}", ["true", "the word true", "true"]),
    ],
)
async def test_a_short_result_does_not_hide_unrelated_text(text: str, output: list[JSON]) -> None:
    class WordNode(EchoNode):
        async def execute(self, config: EchoConfig, ctx: NodeContext) -> Output:
            value = ctx.render(config.value)
            return Output([value, f"the word {value}", str(output[2])])

    harness = NodeHarness({"input": {}}, {"secrets": MemorySecrets(**SECRETS)})
    node = BoundNode(NodeSpec("n", "echo", config={"value": text}), WordNode(), EchoConfig(value=text))
    result = await suspendable(run_attempts(node, harness.context))
    assert result.outcome == Output(output), result.error


async def test_an_error_of_an_expression_with_a_secret_repeats_no_value() -> None:
    for text, words in (
        ("{{ secrets.key | upper | fromjson }}", "the filter `fromjson` fails"),
        ("{{ (secrets.key | upper) + 1 }}", "names a secret"),
        ("{{ (secrets.key | upper).nothing.more }}", "is missing"),
        ("{{ secrets.key.nothing() }}", "a text has no method `nothing`"),
        ("{% set x = secrets.key | upper %}{{ x | fromjson }}", "the filter `fromjson` fails"),
    ):
        harness, result = await echo(text)
        assert result.error is not None
        assert result.error.code == "TEMPLATE"
        assert words in result.error.message
        assert "CANARY" not in reported(harness, result)


async def test_too_long_or_too_many_results_fail_with_advice() -> None:
    for text, words in (
        ("{{ input.word ~ secrets.key }}", "write the secret and the long text as two expressions"),
        ("{% for i in range(300) %}{{ secrets.key ~ i }} {% endfor %}", "more than 200 texts"),
    ):
        harness, result = await echo(text, word="long " * 8000)
        assert result.error is not None
        assert (result.error.code, words in result.error.message) == ("TEMPLATE", True), result.error
        assert SECRETS["key"] not in reported(harness, result)
    _, result = await echo("{{ input.word }}{{ secrets.key }}", word="long " * 8000)
    assert result.error is None


def test_secrets_is_an_ordinary_name_outside_of_nodes() -> None:
    with pytest.raises(evaluator.ExpressionError, match="CANARY"):
        evaluator.evaluate("secrets.key | upper | fromjson", {"secrets": SECRETS})
