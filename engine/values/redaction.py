"""Replace the values of secrets by `•••` in texts, JSON values, streams and log lines.

Everything that leaves a node call and every log line passes through here. All forms of a value are
found (engine/values/encodings.py), and so are the results of expressions that name a secret
(engine/values/secret_results.py). Nothing is stored: a process only redacts the secrets that it has
used itself.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from itertools import accumulate

from engine.types import JSON
from engine.values.encodings import SEPARATOR, SecretEncodings, Span
from engine.values.secret_results import SecretResults, leaves

MARK = "\N{BULLET}" * 3
MIN_LENGTH = 8
"""The least number of characters of a secret. A shorter one would occur in unrelated texts."""
FORMS_PER_CHECK = 16
"""Forms whose search takes about as long as the check of the value, where it is hard to search."""
MAX_KNOWN = 256
"""The number of secrets, and likewise of results, that are redacted in the log: the most recently
used ones.
"""


class Redactor:
    """Redacts a fixed set of secrets. Values shorter than MIN_LENGTH are ignored."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._secrets = [register_secret(value) for value in values if len(value.strip()) >= MIN_LENGTH]
        self._results = SecretResults()

    def with_values(self, values: Iterable[str]) -> "Redactor":
        """Return a redactor of these values and of its own."""
        redactor = Redactor(values)
        redactor._secrets += [secret for secret in self._secrets if all(secret is not new for new in redactor._secrets)]
        redactor._results = self._results
        return redactor

    def with_results(self, results: Iterable[JSON]) -> "Redactor":
        """Return a redactor that also hides the results of expressions that name secrets.

        Raises:
            TooManyResults: They are too many, or too long, to be searched for.
        """
        known = {form.text for secret in self._secrets for form in secret.forms}
        merged = self._results.with_results(value for value in results if str(value) not in known)
        if merged == self._results:
            return self
        redactor = self.with_values(())
        redactor._results = merged
        redactor._secrets += [_register(text, _known_results) for text in merged.texts - self._results.texts]
        redactor._secrets += [SecretEncodings.word(word) for word in merged.words - self._results.words]
        return redactor

    @property
    def weight(self) -> int:
        """How much more work a redaction is than the check of the same value, at least 1."""
        return 1 + sum(len(secret.forms) for secret in self._secrets) // FORMS_PER_CHECK

    def redact_text(self, text: str) -> str:
        """Replace each secret in a text, also one that the beginning or end of the text cuts."""
        return _mask(text, self._spans(text, edges=True))

    def redact_value(self, value: JSON) -> JSON:
        """Replace each secret in a storable JSON value, keys included.

        Returns:
            The same object if it contains no secret, else a copy.
        """
        if not self._secrets:
            return value
        value = self._results.replace_containers(value, MARK)
        return _replace(value, self._replacements(list(dict.fromkeys(leaves(value)))))

    def redact_input(self, value: JSON) -> JSON:
        """Replace each secret in the recorded input of a node, results of few characters included."""
        value = self.redact_value(value)
        return _replace(value, dict.fromkeys(self._results.short, MARK))

    def _replacements(self, texts: list[str]) -> dict[str, str]:
        """Map each text that contains a secret to its redacted form.

        All texts are searched at once, joined by SEPARATOR, which is faster than one by one.
        """
        starts = [0, *accumulate(len(text) + 1 for text in texts)]
        spans: dict[int, list[Span]] = {}
        for start, end in self._spans(SEPARATOR.join(texts), edges=True):
            place = bisect_right(starts, start) - 1
            spans.setdefault(place, []).append((start - starts[place], end - starts[place]))
        return {texts[place]: _mask(texts[place], found) for place, found in spans.items()}

    def _spans(self, text: str, *, edges: bool) -> list[Span]:
        return [span for secret in self._secrets for span in secret.spans(text, edges=edges)]

    def stream(self) -> "RedactedStream":
        """Return a redactor for text that arrives in pieces."""
        return RedactedStream(self)

    def split(self, text: str) -> tuple[str, str]:
        """Split the text of a stream, of which more will follow, into a safe part and the rest.

        Returns:
            The redacted beginning, and the rest of `text`, which may be the beginning of a secret.
        """
        cut = min((form.partial_start(text) for secret in self._secrets for form in secret.forms), default=len(text))
        spans = self._spans(text, edges=False)
        # A possible beginning within a complete secret is not the beginning of another one.
        cut = max((end for start, end in spans if start < cut < end), default=cut)
        return _mask(text[:cut], [span for span in spans if span[1] <= cut]), text[cut:]


class RedactedStream:
    """Redacts text that arrives in pieces.

    Text that may be the beginning of a secret is delayed.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor, self._pending = redactor, ""

    def push(self, delta: str) -> str:
        """Add a piece of text. Returns the redacted text that can be shown now."""
        safe, self._pending = self._redactor.split(self._pending + delta)
        return safe

    def flush(self) -> str:
        """End the stream. Returns the delayed text, redacted."""
        pending, self._pending = self._pending, ""
        return self._redactor.redact_text(pending)


NO_SECRETS = Redactor()
# An OrderedDict and not cachetools.LRUCache, whose values() counts as a use of every entry.
_known: OrderedDict[str, SecretEncodings] = OrderedDict()
_known_results: OrderedDict[str, SecretEncodings] = OrderedDict()
"""The results of expressions, apart from the secrets, so that they do not displace these."""


def register_secret(value: str) -> SecretEncodings:
    """Redact a value in the log of this process from now on. Returns its forms."""
    return _register(value, _known)


def _register(value: str, known: OrderedDict[str, SecretEncodings]) -> SecretEncodings:
    encodings = known.get(value) or SecretEncodings.of(value)
    known[value] = encodings
    known.move_to_end(value)
    if len(known) > MAX_KNOWN:
        known.popitem(last=False)
    return encodings


def redact_log(line: str) -> str:
    """Replace the registered secrets, and the results of expressions with them, in a log line."""
    secrets = (*_known.values(), *_known_results.values())
    return _mask(line, [span for secret in secrets for span in secret.spans(line, edges=False)])


def _replace(value: JSON, replacements: dict[str, str]) -> JSON:
    if not replacements:
        return value
    if isinstance(value, str):
        return replacements.get(value, value)
    if isinstance(value, list):
        return [_replace(item, replacements) for item in value]
    if isinstance(value, dict):
        return {replacements.get(key, key): _replace(item, replacements) for key, item in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return replacements.get(str(value), value)
    return value


def _mask(text: str, spans: list[Span]) -> str:
    """Replace each span by MARK. Overlapping spans become one mark."""
    if not spans:
        return text
    parts, done = [], 0
    for start, end in sorted(spans):
        if start >= done:
            parts += [text[done:start], MARK]
        done = max(done, end)
    return "".join([*parts, text[done:]])
