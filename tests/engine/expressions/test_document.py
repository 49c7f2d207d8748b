"""docs/expressions.md: each of its lines is evaluated, and every filter there is stands on it."""

import json
import re

import pytest

from engine.expressions.analysis import uses
from engine.expressions.environment import FILTERS
from engine.expressions.evaluator import ExpressionError, check, evaluate, is_expression, render
from engine.expressions.lexer import has_code
from engine.types import JSON
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "expressions.md").read_text()
SCOPE: dict[str, JSON] = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
BLOCKS: list[str] = re.findall(r"```\n(.*?)```\n", re.sub(r"```json\n.*?```\n", "", PAGE, flags=re.DOTALL), re.DOTALL)
LINES = [tuple(line.split(" → ", 1)) for block in BLOCKS for line in block.splitlines()]
RIGHT = [(text, told) for text, told in LINES if not told.startswith("✗")]
WRONG = [(text, *told.split(" ", 2)[1:]) for text, told in LINES if told.startswith("✗")]


def is_template(text: str) -> bool:
    """As evaluateExpression decides it."""
    return has_code(text) and not is_expression(text)


def value(text: str) -> JSON:
    return (render if is_template(text) else evaluate)(text, SCOPE)


@pytest.mark.parametrize(("text", "told"), RIGHT)
def test_an_example_gives_what_is_said(text: str, told: str) -> None:
    assert check(text, expression=not is_template(text)) == []
    assert value(text) == json.loads(told)


@pytest.mark.parametrize(("text", "place", "said"), WRONG)
def test_what_is_wrong_is_told_with_its_place(text: str, place: str, said: str) -> None:
    with pytest.raises(ExpressionError) as wrong:
        value(text)
    assert said in wrong.value.message
    assert f"{wrong.value.line}:{wrong.value.column}" == place


def test_every_filter_has_an_example() -> None:
    shown = {use.name for text, _ in RIGHT for use in uses(text, expression=not is_template(text)).filters}
    assert shown == FILTERS
