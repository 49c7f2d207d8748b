"""Secrets are kept out of whatever a text may have made of them, wherever it was cut, and nothing else is touched."""

import base64
import html
import json
import random
import re
import string
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus, urlencode

import httpx
import pytest

from engine.values.encodings import SecretEncodings
from engine.values.redaction import MARK, NOTHING, Redactor, redact_log, remember

KEY = "sk-proj-9fQ2xLr7TqZb31vNw8"
AWKWARD = "p\"a\\s s/w+ö=r%d&<né\nw line's>"
PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(base64.b64encode(random.Random(line).randbytes(48)).decode() for line in range(26))
    + "\n-----END PRIVATE KEY-----\n"
)
VALUES = {"key": KEY, "awkward": AWKWARD, "pem": PEM}
WRITTEN: dict[str, Any] = {
    "as it is": lambda value: value,
    "JSON": json.dumps,
    "JSON beyond ASCII": lambda value: json.dumps(value, ensure_ascii=False),
    "JSON in JSON": lambda value: json.dumps({"body": json.dumps({"key": value})}),
    "JSON of PHP": lambda value: json.dumps(value).replace("/", "\\/"),
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "HTML": html.escape,
    "encodeURIComponent": lambda value: quote(value, safe="!'()*"),
    "a form": lambda value: urlencode({"q": "x", "key": value, "r": "y"}),
    "quote_plus": quote_plus,
    "a path": lambda value: quote(value, safe="!$&'()*+,;=:@/"),
    "a query": lambda value: str(httpx.URL("https://example.com/", params={"key": value, "b": "c"})),
    "a query in small hex": lambda value: re.sub("%..", lambda code: code[0].lower(), quote(value, safe="")),
    "JSON in a URL": lambda value: quote(json.dumps({"key": value})),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 of JSON": lambda value: base64.b64encode(json.dumps({"key": value}).encode()).decode(),
    "URL-safe base64": lambda value: base64.urlsafe_b64encode(b"a" + value.encode() + b"b").decode(),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "a host": str.lower,
    "read as Latin-1": lambda value: value.encode().decode("latin-1"),
}


def shown(text: str, value: str) -> bool:
    """Whether a long part of a value can still be read in a text, by any of the ways back."""
    ways = [text]
    for way in (_from_json, lambda t: _from_json(_from_json(t)), html.unescape, unquote_plus, _from_base64, _from_hex):
        ways.append(way(text))
    pieces = [value.strip()[at : at + 12] for at in range(max(len(value.strip()) - 11, 1))]
    return any(piece in one for one in ways for piece in pieces)


def _from_hex(text: str) -> str:
    return "\n".join(bytes.fromhex(run).decode("latin-1") for run in re.findall("(?:[0-9a-fA-F]{2})+", text))


def _from_json(text: str) -> str:
    return text.replace("\\\\", "\\").replace("\\n", "\n").replace('\\"', '"').replace("\\/", "/")


def _from_base64(text: str) -> str:
    allowed = string.ascii_letters + string.digits + "+/"
    plain = text.replace("-", "+").replace("_", "/")
    found = []
    for start in range(4):
        run = "".join(one if one in allowed else "" for one in plain[start:])
        found.append(base64.b64decode(run + "=" * (-len(run) % 4) if len(run) % 4 != 1 else run[:-1]).decode("latin-1"))
    return "\n".join(found)


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_found_however_it_is_written(name: str, written: str) -> None:
    value = VALUES[name]
    text = f"before {WRITTEN[written](value)} after"
    redacted = Redactor([value]).text(text)
    assert MARK in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert not shown(redacted, value)


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("after", ["", ":", ":x", ":xyz"])
def test_a_value_is_found_in_the_base64_of_something_longer(before: str, after: str) -> None:
    header = "Basic " + base64.b64encode(f"{before}{KEY}{after}".encode()).decode()
    redacted = Redactor([KEY]).text(header)
    assert not shown(redacted, KEY)
    assert redacted.startswith("Basic ")
    assert len(redacted) < len("Basic ") + 2 * len(before) + 2 * len(after) + len(MARK) + 6


@pytest.mark.parametrize("kept", range(8, len(KEY)))
def test_a_value_cut_by_the_end_of_a_text_is_found(kept: int) -> None:
    assert Redactor([KEY]).text("the key is " + KEY[:kept]) == f"the key is {MARK}"
    assert Redactor([KEY]).text(KEY[-kept:] + " was the key") == f"{MARK} was the key"


def test_a_long_value_cut_in_the_middle_of_a_text_is_found() -> None:
    """As pydantic does with what does not fit: input_value='abc...xyz'."""
    said = f"[type=int_parsing, input_value='{PEM[:24]}...{PEM.strip()[-23:]}', input_type=str]"
    assert Redactor([PEM]).text(said) == f"[type=int_parsing, input_value='{MARK}...{MARK}', input_type=str]"


def test_a_value_of_many_lines_is_found_line_by_line() -> None:
    redactor = Redactor([PEM])
    assert {redactor.text(f"[{line}]") for line in PEM.strip().splitlines()} == {f"[{MARK}]"}


def test_white_space_around_a_value_does_not_hide_it() -> None:
    assert Redactor([f" {KEY}\n"]).text(f"Bearer {KEY}!") == f"Bearer {MARK}!"


def test_keys_lists_and_numbers_are_looked_through_and_the_rest_is_the_same_value() -> None:
    redactor = Redactor([KEY, "8412345678"])
    clean = {"a": [1, True, None, 2.5], "b": {"c": "text"}}
    assert redactor.value(clean) is clean
    value = {KEY: 1, "list": [f"x{KEY}y", 8412345678, 84123456789, True], "kept": clean}
    assert redactor.value(value) == {MARK: 1, "list": [f"x{MARK}y", MARK, f"{MARK}9", True], "kept": clean}


def test_values_that_overlap_are_masked_as_one() -> None:
    longer = KEY + "-and-more"
    assert Redactor([KEY, longer]).text(f"<{longer}>") == f"<{MARK}>"
    assert Redactor(["abcdefgh", "efghijkl"]).text("<abcdefghijkl>") == f"<{MARK}>"


def test_without_a_secret_everything_passes_as_it_is() -> None:
    value = {"a": [KEY]}
    assert NOTHING.value(value) is value
    assert NOTHING.text(KEY) == KEY
    assert NOTHING.stream().take(KEY) == KEY


@pytest.mark.parametrize("text", ["", "s", "sk-", "of no concern", "https://example.com/sk-proj", "-" * 100])
def test_other_text_is_left_alone(text: str) -> None:
    assert Redactor([KEY]).text(text) == text


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 50])
@pytest.mark.parametrize("name", VALUES)
def test_streamed_text_is_the_same_however_it_is_cut(name: str, size: int) -> None:
    value = VALUES[name].strip()
    text = f"sk-p and {value}{value[:9]} then {json.dumps(value)} {base64.b64encode(value.encode()).decode()} end"
    redactor = Redactor([VALUES[name]])
    stream = redactor.stream()
    parts = [stream.take(text[at : at + size]) for at in range(0, len(text), size)]
    parts.append(stream.rest())
    assert not any(shown(part, value) for part in parts)
    assert not shown("".join(parts), value)
    assert "".join(parts).startswith("sk-p and " + MARK)
    assert "".join(parts).endswith(" end")


def test_streamed_text_is_held_back_no_longer_than_it_has_to_be() -> None:
    stream = Redactor([KEY]).stream()
    assert stream.take("hello s") == "hello "
    assert stream.take("k-") == ""
    assert stream.take("ip") == "sk-ip"
    assert stream.take(KEY[:-1]) == ""
    assert stream.take(KEY[-1] + "!") == MARK + "!"


def test_a_stream_that_ends_inside_a_value_does_not_show_its_beginning() -> None:
    stream = Redactor([KEY]).stream()
    assert stream.take("key: " + KEY[:-3]) == "key: "
    assert stream.rest() == MARK
    assert stream.take("s") + stream.rest() == "s"


def test_the_longer_of_two_values_is_waited_for_in_a_stream() -> None:
    stream = Redactor(["abcdefgh", "abcdefghijkl"]).stream()
    assert stream.take("xabcdefgh") == "x"
    assert stream.take("ijkl.") == MARK + "."


def test_values_that_repeat_themselves_take_no_more_time() -> None:
    value = "a" * 4000 + "b"
    text = "a" * 200_000
    assert "a" * 20 not in Redactor([value]).text(text)
    stream = Redactor([value]).stream()
    assert "a" * 20 not in "".join(stream.take("a" * 100) for _ in range(200))


def test_random_texts_with_random_values_show_none() -> None:
    chosen = random.Random(5)
    for _ in range(300):
        value = "".join(chosen.choices('ab/+\\"\n é%', k=chosen.randint(8, 40)))
        if len(value.strip()) < 8:
            continue
        text = "".join(
            chosen.choice([value, json.dumps(value)[1:-1], quote(value, safe=""), "ab", "/", "\n"]) for _ in range(8)
        )
        redacted = Redactor([value]).text(text)
        assert value.strip() not in redacted
        assert json.dumps(value.strip())[1:-1] not in redacted
        stream = Redactor([value]).stream()
        cuts = sorted(chosen.sample(range(len(text) + 1), min(5, len(text))))
        parts = [stream.take(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert value.strip() not in "".join([*parts, stream.rest()])


def test_what_the_process_has_used_stays_out_of_its_log() -> None:
    value = "log-" + KEY
    assert redact_log(f"got {value}") == f"got {value}"
    remember(value)
    assert redact_log(f'got "{value}" and {quote(value)}') == f'got "{MARK}" and {MARK}'


def test_a_value_has_few_forms_where_there_is_nothing_to_escape() -> None:
    assert len(SecretEncodings.of(KEY).forms) <= 8


@pytest.mark.parametrize("short", ["", "  ", "EMPTY", "ollama"])
def test_what_is_too_short_to_be_told_from_other_text_is_not_looked_for(short: str) -> None:
    assert Redactor([short]).text("ollama is EMPTY") == "ollama is EMPTY"
