"""Secrets are redacted in every encoding and wherever a text was cut; other text is unchanged."""

import base64
import html
import json
import random
import re
import string
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, unquote, unquote_plus, urlencode, urlsplit

import httpx
import pytest

from engine.values.encodings import SecretEncodings
from engine.values.redaction import MARK, NO_SECRETS, Redactor, redact_log, register_secret

KEY = "sk-proj-9fQ2xLr7TqZb31vNw8"
AWKWARD = "p\"a\\s s/w+ö=r%d&<né\nw line's>"
PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(base64.b64encode(random.Random(line).randbytes(48)).decode() for line in range(26))
    + "\n-----END PRIVATE KEY-----\n"
)
VALUES = {"key": KEY, "awkward": AWKWARD, "pem": PEM}
ENCODINGS: dict[str, Any] = {
    "plain": lambda value: value,
    "JSON": json.dumps,
    "JSON without ASCII escapes": lambda value: json.dumps(value, ensure_ascii=False),
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
    "a query in lower case hex": lambda value: re.sub("%..", lambda code: code[0].lower(), quote(value, safe="")),
    "JSON in a URL": lambda value: quote(json.dumps({"key": value})),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 of JSON": lambda value: base64.b64encode(json.dumps({"key": value}).encode()).decode(),
    "URL-safe base64": lambda value: base64.urlsafe_b64encode(b"a" + value.encode() + b"b").decode(),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "a host in lower case": str.lower,
    "read as Latin-1": lambda value: value.encode().decode("latin-1"),
}


def reveals(text: str, value: str) -> bool:
    """Whether a text, or a decoding of it, contains a long part of a value."""
    decodings = [text]
    for decode in (
        _from_json,
        lambda t: _from_json(_from_json(t)),
        html.unescape,
        unquote_plus,
        _from_base64,
        _from_hex,
    ):
        decodings.append(decode(text))
    pieces = [value.strip()[at : at + 12] for at in range(max(len(value.strip()) - 11, 1))]
    return any(piece in decoding for decoding in decodings for piece in pieces)


def _from_hex(text: str) -> str:
    return "\n".join(bytes.fromhex(run).decode("latin-1") for run in re.findall("(?:[0-9a-fA-F]{2})+", text))


def _from_json(text: str) -> str:
    return text.replace("\\\\", "\\").replace("\\n", "\n").replace('\\"', '"').replace("\\/", "/")


def _from_base64(text: str) -> str:
    allowed = string.ascii_letters + string.digits + "+/"
    plain = text.replace("-", "+").replace("_", "/")
    decodings = []
    for start in range(4):
        run = "".join(char if char in allowed else "" for char in plain[start:])
        decodings.append(
            base64.b64decode(run + "=" * (-len(run) % 4) if len(run) % 4 != 1 else run[:-1]).decode("latin-1")
        )
    return "\n".join(decodings)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", VALUES)
def test_a_secret_is_found_in_every_encoding(name: str, encoding: str) -> None:
    value = VALUES[name]
    text = f"before {ENCODINGS[encoding](value)} after"
    redacted = Redactor([value]).redact_text(text)
    assert MARK in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert not reveals(redacted, value)


@pytest.mark.parametrize(
    "value", ['["sk","Canary","81kQz0"]', "sk+Canary+81kQz0pL", "ca<n>a|r{y}^8`1\\k'[Q]", "a%2Fb%20canary+81k"]
)
def test_a_secret_that_is_part_of_an_address_as_it_is_is_found(value: str) -> None:
    """The client escapes some of its characters, and the server reads a form or a path."""
    address, query = f"https://example.com/{value}/x", f"https://example.com/x?a=b&key={value}&c=d"
    shown = [str(httpx.URL(address)), str(httpx.URL(query)), unquote(value), parse_qs(urlsplit(query).query)["key"][0]]
    for text in shown:
        redacted = Redactor([value]).redact_text(f"before {text} after")
        assert MARK in redacted
        assert not any(value[at : at + 6] in unquote_plus(redacted) for at in range(len(value) - 5)), text


@pytest.mark.parametrize("before", ["", "(", "%22", "%e2%80%9c", "\\n", "\\t", "\\x1b", "\\u0022", "\\u002F"])
def test_a_short_result_behind_an_escaped_character_is_a_word(before: str) -> None:
    redactor = Redactor([]).with_results(["Canary"])
    assert redactor.redact_value(f"is {before}Canary, and") == f"is {before}{MARK}, and"
    assert redactor.redact_value(f"is {before}Canary2") == f"is {before}Canary2"
    assert redactor.redact_value(f"is {before}22Canary") == f"is {before}22Canary"


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("after", ["", ":", ":x", ":xyz"])
def test_a_secret_is_found_in_the_base64_of_a_longer_text(before: str, after: str) -> None:
    header = "Basic " + base64.b64encode(f"{before}{KEY}{after}".encode()).decode()
    redacted = Redactor([KEY]).redact_text(header)
    assert not reveals(redacted, KEY)
    assert redacted.startswith("Basic ")
    assert len(redacted) < len("Basic ") + 2 * len(before) + 2 * len(after) + len(MARK) + 6


@pytest.mark.parametrize("length", range(8, len(KEY)))
def test_a_secret_cut_by_the_end_of_a_text_is_found(length: int) -> None:
    assert Redactor([KEY]).redact_text("the key is " + KEY[:length]) == f"the key is {MARK}"
    assert Redactor([KEY]).redact_text(KEY[-length:] + " was the key") == f"{MARK} was the key"


def test_a_long_secret_that_is_shortened_in_its_middle_is_found() -> None:
    """pydantic shortens invalid values so: input_value='abc...xyz'."""
    message = f"[type=int_parsing, input_value='{PEM[:24]}...{PEM.strip()[-23:]}', input_type=str]"
    assert Redactor([PEM]).redact_text(message) == f"[type=int_parsing, input_value='{MARK}...{MARK}', input_type=str]"


def test_a_secret_of_many_lines_is_found_line_by_line() -> None:
    redactor = Redactor([PEM])
    assert {redactor.redact_text(f"[{line}]") for line in PEM.strip().splitlines()} == {f"[{MARK}]"}


def test_white_space_around_a_secret_is_ignored() -> None:
    assert Redactor([f" {KEY}\n"]).redact_text(f"Bearer {KEY}!") == f"Bearer {MARK}!"


def test_keys_lists_and_numbers_are_redacted_and_a_clean_value_is_the_same_object() -> None:
    redactor = Redactor([KEY, "8412345678"])
    clean = {"a": [1, True, None, 2.5], "b": {"c": "text"}}
    assert redactor.redact_value(clean) is clean
    value = {KEY: 1, "list": [f"x{KEY}y", 8412345678, 84123456789, True], "kept": clean}
    assert redactor.redact_value(value) == {MARK: 1, "list": [f"x{MARK}y", MARK, f"{MARK}9", True], "kept": clean}


def test_overlapping_secrets_become_one_mark() -> None:
    longer = KEY + "-and-more"
    assert Redactor([KEY, longer]).redact_text(f"<{longer}>") == f"<{MARK}>"
    assert Redactor(["abcdefgh", "efghijkl"]).redact_text("<abcdefghijkl>") == f"<{MARK}>"


def test_without_a_secret_nothing_changes() -> None:
    value = {"a": [KEY]}
    assert NO_SECRETS.redact_value(value) is value
    assert NO_SECRETS.redact_text(KEY) == KEY
    assert NO_SECRETS.stream().push(KEY) == KEY


@pytest.mark.parametrize("text", ["", "s", "sk-", "of no concern", "https://example.com/sk-proj", "-" * 100])
def test_other_text_is_unchanged(text: str) -> None:
    assert Redactor([KEY]).redact_text(text) == text


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 50])
@pytest.mark.parametrize("name", VALUES)
def test_a_stream_is_redacted_for_every_size_of_its_pieces(name: str, size: int) -> None:
    value = VALUES[name].strip()
    text = f"sk-p and {value}{value[:9]} then {json.dumps(value)} {base64.b64encode(value.encode()).decode()} end"
    redactor = Redactor([VALUES[name]])
    stream = redactor.stream()
    parts = [stream.push(text[at : at + size]) for at in range(0, len(text), size)]
    parts.append(stream.flush())
    assert not any(reveals(part, value) for part in parts)
    assert not reveals("".join(parts), value)
    assert "".join(parts).startswith("sk-p and " + MARK)
    assert "".join(parts).endswith(" end")


def test_a_stream_delays_text_only_while_it_may_be_a_secret() -> None:
    stream = Redactor([KEY]).stream()
    assert stream.push("hello s") == "hello "
    assert stream.push("k-") == ""
    assert stream.push("ip") == "sk-ip"
    assert stream.push(KEY[:-1]) == ""
    assert stream.push(KEY[-1] + "!") == MARK + "!"


def test_a_stream_that_ends_inside_a_secret_does_not_show_its_beginning() -> None:
    stream = Redactor([KEY]).stream()
    assert stream.push("key: " + KEY[:-3]) == "key: "
    assert stream.flush() == MARK
    assert stream.push("s") + stream.flush() == "s"


def test_a_stream_waits_for_the_longer_of_two_secrets() -> None:
    stream = Redactor(["abcdefgh", "abcdefghijkl"]).stream()
    assert stream.push("xabcdefgh") == "x"
    assert stream.push("ijkl.") == MARK + "."


def test_a_secret_of_repeated_characters_takes_no_more_time() -> None:
    value = "a" * 4000 + "b"
    text = "a" * 200_000
    assert "a" * 20 not in Redactor([value]).redact_text(text)
    stream = Redactor([value]).stream()
    assert "a" * 20 not in "".join(stream.push("a" * 100) for _ in range(200))


def test_random_texts_do_not_reveal_random_secrets() -> None:
    chosen = random.Random(5)
    for _ in range(300):
        value = "".join(chosen.choices('ab/+\\"\n é%', k=chosen.randint(8, 40)))
        if len(value.strip()) < 8:
            continue
        text = "".join(
            chosen.choice([value, json.dumps(value)[1:-1], quote(value, safe=""), "ab", "/", "\n"]) for _ in range(8)
        )
        redacted = Redactor([value]).redact_text(text)
        assert value.strip() not in redacted
        assert json.dumps(value.strip())[1:-1] not in redacted
        stream = Redactor([value]).stream()
        cuts = sorted(chosen.sample(range(len(text) + 1), min(5, len(text))))
        parts = [stream.push(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert value.strip() not in "".join([*parts, stream.flush()])


def test_a_registered_secret_is_redacted_in_the_log() -> None:
    value = "log-" + KEY
    assert redact_log(f"got {value}") == f"got {value}"
    register_secret(value)
    assert redact_log(f'got "{value}" and {quote(value)}') == f'got "{MARK}" and {MARK}'


def test_a_secret_without_special_characters_has_few_forms() -> None:
    assert len(SecretEncodings.of(KEY).forms) <= 8


@pytest.mark.parametrize("short", ["", "  ", "EMPTY", "ollama"])
def test_a_secret_that_is_too_short_is_not_searched_for(short: str) -> None:
    assert Redactor([short]).redact_text("ollama is EMPTY") == "ollama is EMPTY"


@pytest.mark.parametrize(("count", "weight"), [(0, 1), (2, 1), (3, 2), (20, 9)])
def test_a_redaction_weighs_one_check_more_for_each_sixteen_forms(count: int, weight: int) -> None:
    redactor = Redactor(f"sk-secret-{number:02}-key" for number in range(count))
    forms = sum(len(secret.forms) for secret in redactor._secrets)
    assert (redactor.weight, forms // 16) == (weight, weight - 1)
