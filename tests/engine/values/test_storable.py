"""What may be stored: checked before it goes anywhere, with the place of what may not."""

from enum import StrEnum
from typing import Any

import orjson
import pytest
from hypothesis import given

from engine.errors import NodeFailure, NotStorable
from engine.values.storable import MAX_DEPTH, check_storable
from tests.engine.json_values import JSON_VALUES


class Colour(StrEnum):
    RED = "red"


@given(JSON_VALUES)
def test_json_is_storable_and_comes_back_the_same(value: Any) -> None:
    check_storable(value)
    assert orjson.loads(orjson.dumps(value)) == value


@pytest.mark.parametrize(
    ("value", "path", "what"),
    [
        ({"rows": [{"price": float("nan")}]}, ".rows[0].price", "nan"),
        ([float("inf")], "[0]", "inf"),
        ({"n": 10**40}, ".n", "beyond 64 bits"),
        (-(2**63) - 1, "", "beyond 64 bits"),
        ({"a": {1, 2}}, ".a", "set"),
        ({"a": b"x"}, ".a", "bytes"),
        ([(1, 2)], "[0]", "tuple"),
        ({"a": "x\0y"}, ".a", "NUL"),
        ({"a": ["\ud800"]}, ".a[0]", "surrogate"),
        ({"a": {1: 2}}, ".a", "key 1"),
        ({"a": {"\0": 2}}, ".a", "NUL"),
        ({"a": {10**5000: 2}}, ".a", "of type int"),
        ([Colour.RED], "[0]", "Colour"),
        (object(), "", "object"),
        (["x" * 9_000_000], "", "larger than 8 MiB"),
        ([[]] * 2_100_000, "", "larger than 8 MiB"),
    ],
)
def test_anything_else_is_refused_with_its_place(value: Any, path: str, what: str) -> None:
    with pytest.raises(NotStorable) as refused:
        check_storable(value)
    assert refused.value.path == path
    assert what in refused.value.message
    assert isinstance(refused.value, NodeFailure) and refused.value.code == "OUTPUT"


def test_depth_has_a_limit_that_json_can_hold() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    check_storable(deep)
    orjson.dumps({"body": {"output": deep}})
    with pytest.raises(NotStorable, match="levels deep"):
        check_storable([deep])


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotStorable, match="levels deep"):
        check_storable(value)


def test_a_list_of_lists_of_one_list_is_small_here_and_large_as_json() -> None:
    value: list[Any] = [0]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(NotStorable, match="larger than 8 MiB"):
        check_storable(value)


def test_many_texts_that_hold_nothing_have_a_size_all_the_same() -> None:
    with pytest.raises(NotStorable, match="larger than 8 MiB"):
        check_storable([""] * 2_500_000)
