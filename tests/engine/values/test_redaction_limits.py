"""Redaction at its limits: the shortest secret, the number of known ones, and the borders of texts."""

from collections import OrderedDict
from typing import Any

import pytest

from engine.values import redaction
from engine.values.redaction import MARK, MAX_KNOWN, Redactor, redact_log, register_secret

KEY = "sk-proj-9fQ2xLr7TqZb31vNw8"


@pytest.fixture(autouse=True)
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with no known secrets, and leave those of other tests as they are."""
    monkeypatch.setattr(redaction, "_known", OrderedDict())
    monkeypatch.setattr(redaction, "_known_results", OrderedDict())


def test_a_secret_has_at_least_eight_characters_besides_white_space() -> None:
    redactor = Redactor(["q1w2e3r4", "t5z6u7i", " t5z6u7i "])
    assert redactor.redact_text("q1w2e3r4 and t5z6u7i") == f"{MARK} and t5z6u7i"


def test_the_log_forgets_the_secret_that_was_unused_for_longest() -> None:
    values = [f"secret-{number:04}" for number in range(MAX_KNOWN)]
    for value in values:
        register_secret(value)
    assert MAX_KNOWN == 256
    assert redact_log(f"{values[0]} {values[-1]}") == f"{MARK} {MARK}"
    first = register_secret(values[0])
    register_secret("one-secret-more")
    assert register_secret(values[0]) is first
    assert redact_log(f"{values[0]} {values[1]} {values[2]}") == f"{MARK} {values[1]} {MARK}"


def test_more_values_are_redacted_besides_those_of_a_redactor() -> None:
    own = Redactor([KEY, "another-secret"])
    both = own.with_values(["a-third-secret", KEY])
    assert both.redact_text(f"{KEY} another-secret a-third-secret") == f"{MARK} {MARK} {MARK}"
    assert own.redact_text("a-third-secret") == "a-third-secret"
    assert len(both._secrets) == 3


TEXTS: dict[str, tuple[Any, Any]] = {
    "at the beginning": ([KEY + " a", "b"], [MARK + " a", "b"]),
    "at the end": (["a " + KEY, "b"], ["a " + MARK, "b"]),
    "in the second of two": (["a", f"b {KEY} c"], ["a", f"b {MARK} c"]),
    "in the last of three": (["", "aa", f"{KEY}c"], ["", "aa", f"{MARK}c"]),
    "alone": ([KEY, "", KEY], [MARK, "", MARK]),
    "twice": ([f"{KEY} and {KEY}", "b"], [f"{MARK} and {MARK}", "b"]),
    "without a space between": ([KEY + KEY], [MARK + MARK]),
    "in a key and its value": ({KEY: {"a": KEY, "b": 1}}, {MARK: {"a": MARK, "b": 1}}),
    "cut at the border of two texts": ([KEY[:5], KEY[5:]], [KEY[:5], MARK]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_secret_is_replaced_at_its_place_in_a_value(name: str) -> None:
    value, expected = TEXTS[name]
    assert Redactor([KEY]).redact_value(value) == expected


def test_a_result_of_few_characters_is_redacted_as_a_whole_value_of_the_input_only() -> None:
    redactor = Redactor([KEY]).with_results(["7f", 41])
    value = {"a": "7f", "b": "7f and more", "c": 41, "d": True, "e": ["41", None]}
    assert redactor.redact_value(value) == value
    assert redactor.redact_input(value) == {"a": MARK, "b": "7f and more", "c": MARK, "d": True, "e": [MARK, None]}


def test_a_result_that_reads_like_a_constant_hides_no_constant() -> None:
    redactor = Redactor([KEY]).with_results(["None", "True"])
    assert redactor.redact_input([None, True, "None", "True"]) == [None, True, MARK, MARK]


def test_the_results_of_expressions_are_redacted_and_kept_by_further_values() -> None:
    redactor = Redactor([KEY])
    assert redactor.with_results([]) is redactor
    assert redactor.with_results([KEY]) is redactor
    more = redactor.with_results(["Bearer of the crown"])
    assert more.with_results(["Bearer of the crown"]) is more
    assert more.redact_text(f"<Bearer of the crown> {KEY}") == f"<{MARK}> {MARK}"
    assert more.with_values(["a-third-secret"]).with_results(["Bearer of the crown"]).redact_value(
        ["Bearer of the crown", "a-third-secret", KEY]
    ) == [MARK, MARK, MARK]
    assert redact_log("<Bearer of the crown>") == f"<{MARK}>"


@pytest.mark.parametrize("size", [1, 3, 7, 40])
def test_a_stream_of_two_secrets_shows_all_other_text(size: int) -> None:
    text = f"sk-p {KEY}{KEY} and abcdefgh, abcdefghijkl; sk-proj then abcdefg {KEY[:8]} {KEY}"
    stream = Redactor([KEY, "abcdefgh", "abcdefghijkl"]).stream()
    parts = [stream.push(text[at : at + size]) for at in range(0, len(text), size)]
    shown = "".join([*parts, stream.flush()])
    assert shown == f"sk-p {MARK}{MARK} and {MARK}, {MARK}; sk-proj then abcdefg {KEY[:8]} {MARK}"
    assert stream.push("more ") == "more "


def test_a_text_is_split_before_what_may_become_a_secret() -> None:
    redactor = Redactor(["abcdefgh", "fghijklm"])
    assert redactor.split("x abcdefgh") == (f"x {MARK}", "")
    assert redactor.split("x abcdefgh y ab") == (f"x {MARK} y ", "ab")
    assert redactor.split("x ab") == ("x ", "ab")
    assert redactor.split("x") == ("x", "")
    # A complete secret in what may be the beginning of another one.
    assert Redactor(["0123456789abcdef", "56789abc"]).split("x 0123456789abc") == ("x ", "0123456789abc")
    assert redactor.split("") == ("", "")
