"""Every example in docs/expressions.md is evaluated, and every filter has an example there."""

import json
import re

import pytest

from engine.expressions.analysis import analyze
from engine.expressions.evaluator import ExpressionError, check, evaluate_as, is_expression
from engine.expressions.lexer import has_code
from engine.expressions.names import FILTERS
from engine.types import JSON
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "expressions.md").read_text()
SCOPE: dict[str, JSON] = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
BLOCKS: list[str] = re.findall(r"```\n(.*?)```\n", re.sub(r"```json\n.*?```\n", "", PAGE, flags=re.DOTALL), re.DOTALL)
LINES = [tuple(line.split(" → ", 1)) for block in BLOCKS for line in block.splitlines()]
VALID = [(text, result) for text, result in LINES if not result.startswith("✗")]
INVALID = [(text, *result.split(" ", 2)[1:]) for text, result in LINES if result.startswith("✗")]


def is_template(text: str) -> bool:
    """Whether evaluateExpression treats a text as a template."""
    return has_code(text) and not is_expression(text)


def value(text: str) -> JSON:
    return evaluate_as(None, text, SCOPE)


@pytest.mark.parametrize(("text", "result"), VALID)
def test_an_example_gives_its_documented_result(text: str, result: str) -> None:
    assert check(text, expression=not is_template(text)) == []
    assert json.dumps(value(text)) == json.dumps(json.loads(result))  # 10.0 is not 10


@pytest.mark.parametrize(("text", "place", "message"), INVALID)
def test_an_invalid_example_gives_its_documented_error(text: str, place: str, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        value(text)
    assert message in error.value.message
    assert f"{error.value.line}:{error.value.column}" == place


def test_every_filter_has_an_example() -> None:
    filters = {use.name for text, _ in VALID for use in analyze(text, expression=not is_template(text)).filters}
    assert filters == FILTERS
