"""Tests of checking that a value is storable JSON, and of the path in its error."""

from enum import StrEnum
from typing import Any

import orjson
import pytest
from hypothesis import given

from engine.errors import NodeFailure, NotStorable
from engine.values.storable import INT_MIN, MAX_DEPTH, check_storable, stored_form
from tests.engine.json_values import JSON_VALUES


class Colour(StrEnum):
    RED = "red"


@given(JSON_VALUES)
def test_json_is_storable_and_is_read_back_as_the_same_value(value: Any) -> None:
    check_storable(value)
    assert orjson.loads(orjson.dumps(value)) == value


@given(JSON_VALUES)
def test_the_stored_form_is_equal_has_no_float_without_a_fraction_and_is_stable(value: Any) -> None:
    stored = stored_form(value)
    assert stored == value
    assert not [number for number in floats_in(stored) if number.is_integer() and INT_MIN <= number < 2**63]
    assert stored_form(stored) is stored  # and so nothing is copied
    read = orjson.loads(orjson.dumps(stored))
    assert read == stored and orjson.dumps(read) == orjson.dumps(stored)


def floats_in(value: Any) -> list[float]:
    if isinstance(value, float):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for item in inner for number in floats_in(item)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10.0, "10"),
        (-0.0, "0"),
        (1e16, "10000000000000000"),
        (1e22, repr(1e22)),
        (float(2**63), repr(float(2**63))),
        (-(2.0**63), str(-(2**63))),
        (2.5, "2.5"),
        ({"a": [1.0, {"b": 2.0}], "c": True}, "{'a': [1, {'b': 2}], 'c': True}"),
    ],
)
def test_a_float_without_a_fraction_is_stored_as_a_whole_number(value: Any, text: str) -> None:
    assert repr(stored_form(value)) == text


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"rows": [{"price": float("nan")}]}, ".rows[0].price", "NaN"),
        ([float("inf")], "[0]", "infinite"),
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
def test_a_value_that_is_not_json_is_an_error_with_its_path(value: Any, path: str, reason: str) -> None:
    with pytest.raises(NotStorable) as error:
        check_storable(value)
    assert error.value.path == path
    assert reason in error.value.message
    assert isinstance(error.value, NodeFailure) and error.value.code == "OUTPUT"


def test_a_value_at_the_depth_limit_can_be_written_as_json() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    check_storable(deep)
    orjson.dumps({"body": {"output": deep}})
    with pytest.raises(NotStorable, match="levels deep"):
        check_storable([deep])


def test_a_value_that_contains_itself_is_an_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotStorable, match="levels deep"):
        check_storable(value)


def test_a_value_that_is_small_in_memory_but_large_as_json_is_an_error() -> None:
    value: list[Any] = [0]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(NotStorable, match="larger than 8 MiB"):
        check_storable(value)


def test_many_empty_texts_count_toward_the_size() -> None:
    with pytest.raises(NotStorable, match="larger than 8 MiB"):
        check_storable([""] * 2_500_000)
