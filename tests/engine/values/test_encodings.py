"""The search for forms of secrets: the same as a search by brute force, in linear time."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import JSON
from engine.values.encodings import SEPARATOR, SecretForm
from engine.values.redaction import MARK, Redactor

LETTERS = st.text("ab", min_size=16, max_size=60)
TEXTS = st.lists(st.one_of(st.text("abc", max_size=30), LETTERS), min_size=1, max_size=6)


def positions(form: SecretForm, text: str, edges: bool) -> set[int]:
    """Find the characters of a text that belong to a form, by comparing at each index."""
    found: set[int] = set()
    for at in range(len(text) + 1):
        size = next(
            (n for n in range(min(len(form.text), len(text) - at), 0, -1) if text[at : at + n] == form.text[:n]), 0
        )
        if size >= form.part or (edges and at + size == len(text) and size >= len(form.head)):
            found |= set(range(at, at + size))
        size = next((n for n in range(min(len(form.text), at), 0, -1) if text[at - n : at] == form.text[-n:]), 0)
        if size >= form.part or (edges and at == size and size >= len(form.head)):
            found |= set(range(at - size, at))
    return found


@given(LETTERS, TEXTS, st.data())
def test_the_search_finds_what_a_search_by_brute_force_finds(value: str, texts: list[str], data: st.DataObject) -> None:
    form = SecretForm.of(value, 8)
    cut = data.draw(st.integers(0, len(value)))
    texts = [*texts, value[cut:] + "c", "c" + value[:cut], value[cut:] + value[:cut]]
    for edges in (False, True):
        for text in texts:
            spans = form.spans(text, edges=edges)
            assert {at for start, end in spans for at in range(start, end)} == positions(form, text, edges)
    joined, offset = SEPARATOR.join(texts), 0
    found = {at for start, end in form.spans(joined, edges=True) for at in range(start, end)}
    for text in texts:
        assert {at - offset for at in found if offset <= at < offset + len(text)} == positions(form, text, True)
        offset += len(text) + 1


@given(LETTERS, st.text("ab", max_size=80))
def test_the_end_of_a_stream_that_may_begin_a_form_is_found(value: str, text: str) -> None:
    form = SecretForm.of(value, 8)
    starts = (at for at in range(len(text)) if len(text) - at < len(value) and value.startswith(text[at:]))
    assert form.partial_start(text) <= next(starts, len(text))


HARD: dict[str, tuple[str, Callable[[int], JSON]]] = {
    "one letter, many short texts": ("a" * 8192, lambda n: [f"{'a' * 20}{i}" for i in range(n // 20)]),
    "one letter, one text": ("a" * 8192, lambda n: "a" * n),
    "a unique beginning": ("b" * 8 + "a" * 8184, lambda n: "a" * n),
    "a unique end": ("a" * 8184 + "b" * 8, lambda n: "a" * n),
    "two letters, defects": ("ab" * 4096, lambda n: ("ab" * 300 + "c") * (n // 601)),
    "a period of eight": ("abcdefgh" * 1024, lambda n: ["abcdefgh" * 16 + "x"] * (n // 129)),
    "the beginning without end": ("abcdefgh" + "".join(chr(0x4E00 + i) for i in range(2000)), lambda n: "abcdefgh" * (n // 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_redaction_takes_time_linear_in_the_text(name: str) -> None:
    """A quadratic search takes minutes here: 8,192 characters of a secret times 400,000."""
    value, text = HARD[name]
    redactor = Redactor([value])
    before = time.process_time()
    assert MARK in repr(redactor.redact_value(text(400_000))) or name == "the beginning without end"
    assert time.process_time() - before < 10


def test_a_stream_of_repeated_letters_takes_time_linear_in_the_text() -> None:
    stream = Redactor(["a" * 8192]).stream()
    before = time.process_time()
    shown = "".join(stream.push("a" * 50 + "b" * (index % 7 == 0)) for index in range(2_000)) + stream.flush()
    assert "a" * 60 not in shown
    assert time.process_time() - before < 10
