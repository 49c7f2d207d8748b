"""JSON text from outside: byte order marks, and whole numbers beyond 64 bits."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import JSON
from engine.values.json_text import NotJson, parse_json
from tests.engine.json_values import JSON_VALUES


@given(JSON_VALUES, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_a_value_is_read_back_whatever_the_mark_at_the_start(value: JSON, encoding: str) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert parse_json(text.encode(encoding)) == value
    assert parse_json(text) == value
    assert parse_json("\ufeff" + text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ('"18446744073709551617"', "18446744073709551617"),
        ('{"18446744073709551617": "\\"18446744073709551617"}', {"18446744073709551617": '"18446744073709551617'}),
        ("0.18446744073709551617", 0.18446744073709551617),
        ("18446744073709551617e0", 18446744073709551617.0),
        ("18446744073709551617.0", 18446744073709551617.0),
    ],
)
def test_long_digits_are_read_where_they_are_no_whole_number(text: str, value: JSON) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize("digits", [str(2**63), str(-(2**63) - 1), str(2**64 + 1), "9" * 30, "-" + "9" * 5000])
@pytest.mark.parametrize("around", ["%s", "[1, %s]", '{"a": {"b": [%s, "x"]}}', " %s "])
def test_a_whole_number_beyond_64_bits_is_an_error_that_shows_it(digits: str, around: str) -> None:
    for text in (around % digits, (around % digits).encode("utf-8-sig")):
        with pytest.raises(NotJson, match="contains the whole number") as error:
            parse_json(text)
        assert digits[:24] in str(error.value) and len(str(error.value)) < 120


@pytest.mark.parametrize(
    "text", ["", "\ufeff", "{", "NaN", "1e400", "\ud800", b"\xff", b"\xef\xbb\xbf", "[1] 2", "[" * 2000]
)
def test_a_text_that_is_no_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(NotJson):
        parse_json(text)


def test_deep_nesting_around_a_long_number_is_an_error() -> None:
    with pytest.raises(NotJson):
        parse_json("[" * 5000 + "1" * 20 + "]" * 5000)
