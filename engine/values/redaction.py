"""Keeps the values of secrets inside: whatever leaves a node call, and every line that the process logs, passes here.

A value becomes `•••`, in any of its forms (engine/values/encodings.py). Nothing is stored; a process knows the values
that it has used.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import accumulate

from engine.types import JSON
from engine.values.encodings import SecretEncodings, Span

MARK = "\N{BULLET}" * 3
MIN_LENGTH = 8
"""Characters of a secret: a shorter one would be found in texts that have nothing to do with it."""
MAX_KNOWN = 256
"""Values that the log looks for: those used last."""


class Redactor:
    """Knows some values, of those that are long enough. Without one, everything passes as it is."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._disguises = [remember(value) for value in values if len(value.strip()) >= MIN_LENGTH]

    def knowing(self, values: Iterable[str]) -> "Redactor":
        """One that knows these as well."""
        more = Redactor(values)
        more._disguises += [one for one in self._disguises if all(one is not known for known in more._disguises)]
        return more

    def text(self, text: str) -> str:
        return _masked(text, [*self._spans(text), *self._edges(text)])

    def value(self, value: JSON) -> JSON:
        """Storable JSON, keys included; what holds no secret is given back as it is."""
        if not self._disguises:
            return value
        return _replaced(value, self._found(list(dict.fromkeys(_texts(value)))))

    def _found(self, texts: list[str]) -> dict[str, str]:
        """Those of the texts that hold a secret, with what takes their place. All are looked through at once."""
        ends = list(accumulate(len(text) + 1 for text in texts))
        places = {bisect_right(ends, start) for start, _ in self._spans("\0".join(texts))}
        dirty = {texts[place] for place in places} | {text for text in texts if self._edges(text)}
        return {text: self.text(text) for text in dirty}

    def _spans(self, text: str) -> list[Span]:
        return [span for one in self._disguises for span in one.spans(text)]

    def _edges(self, text: str) -> list[Span]:
        return [span for one in self._disguises for span in one.edges(text)]

    def stream(self) -> "Stream":
        return Stream(self)

    def sure(self, text: str) -> tuple[str, str]:
        """What of a text can be shown before more of it comes, and the rest: it may be the beginning of a value."""
        cut = min((form.begins(text) for one in self._disguises for form in one.forms), default=len(text))
        spans = self._spans(text)
        # Where a value is complete, what looks like another beginning inside of it is none.
        cut = max((end for start, end in spans if start < cut < end), default=cut)
        return _masked(text[:cut], [span for span in spans if span[1] <= cut]), text[cut:]


class Stream:
    """Text that comes bit by bit. What may be the beginning of a value is held back until it is clear."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor, self._held = redactor, ""

    def take(self, delta: str) -> str:
        """What can be shown now."""
        shown, self._held = self._redactor.sure(self._held + delta)
        return shown

    def rest(self) -> str:
        """There is no more to come."""
        held, self._held = self._held, ""
        return self._redactor.text(held)


NOTHING = Redactor()
_known: OrderedDict[str, SecretEncodings] = OrderedDict()


def remember(value: str) -> SecretEncodings:
    """From now on the log of this process does not show the value."""
    disguises = _known.get(value) or SecretEncodings.of(value)
    _known[value] = disguises
    _known.move_to_end(value)
    if len(_known) > MAX_KNOWN:
        _known.popitem(last=False)
    return disguises


def redact_log(line: str) -> str:
    return _masked(line, [span for one in _known.values() for span in one.spans(line)])


def _texts(value: JSON) -> Iterator[str]:
    """Every text in a value, keys too; numbers as JSON writes them."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            yield from item
            stack.extend(item.values())
        elif isinstance(item, int | float):
            yield str(item)


def _replaced(value: JSON, found: dict[str, str]) -> JSON:
    if not found:
        return value
    if isinstance(value, str):
        return found.get(value, value)
    if isinstance(value, list):
        return [_replaced(item, found) for item in value]
    if isinstance(value, dict):
        return {found.get(key, key): _replaced(item, found) for key, item in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return found.get(str(value), value)
    return value


def _masked(text: str, spans: list[Span]) -> str:
    if not spans:
        return text
    parts, done = [], 0
    for start, end in sorted(spans):
        if start >= done:
            parts += [text[done:start], MARK]
        done = max(done, end)
    return "".join([*parts, text[done:]])
