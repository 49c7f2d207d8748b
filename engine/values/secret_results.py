"""The results of expressions that name secrets, in the forms in which redaction searches for them.

Such a result may be anything that was computed from a secret: a changed text, a number, a list. A
short one occurs in unrelated texts as well, so its length decides how it is found; docs/secrets.md
has the rules. The module has no state.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import orjson

from engine.types import JSON

MIN_TEXT = 8
"""Characters from which a text is searched for in all forms, as the value of a secret."""
MIN_WORD = 4
"""Characters from which a text is searched for as a whole word."""
MIN_KEY = 16
"""Characters from which a key of an object is searched for like a text."""
MAX_TEXT = 32 * 1024
"""Characters of one result."""
MAX_TOTAL = 256 * 1024
"""Characters of all results of one visit."""
MAX_TEXTS = 200
"""Texts in all results of one visit."""
ORDINARY_WORDS = frozenset({"true", "false", "null", "none"})
"""Texts that are treated as if they were shorter than MIN_WORD."""


class TooManyResults(Exception):
    """The results are too many, or too long. The message is for the author of the expression."""


@dataclass(frozen=True, slots=True)
class SecretResults:
    """The results of one visit.

    Attributes:
        texts: Results and parts of them that are searched for in all their forms.
        words: Those that are searched for as whole words.
        short: Those that are hidden in the recorded input only, where a value is equal to one.
        containers: The lists and objects, by `_fingerprint`. They are hidden where a value is equal.
    """

    texts: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    short: frozenset[str] = frozenset()
    containers: dict[int, JSON] = field(default_factory=dict)

    def with_results(self, results: Iterable[JSON]) -> "SecretResults":
        """Return these results and further ones. Raises TooManyResults."""
        results = list(results)
        containers = {_fingerprint(value): value for value in results if _is_long_container(value)}
        texts, words, short = set(self.texts), set(self.words), set(self.short)
        for text in (text.strip() for value in results for text in _texts(value)):
            if len(text) >= MIN_TEXT:
                texts.add(text)
            elif len(text) >= MIN_WORD and text.lower() not in ORDINARY_WORDS:
                words.add(text)
            elif text:
                short.add(text)
        _check_size(texts, len(texts) + len(words))
        return SecretResults(frozenset(texts), frozenset(words), frozenset(short), {**self.containers, **containers})

    def replace_containers(self, value: JSON, mark: str) -> JSON:
        """Replace each list and object that is equal to a result.

        Returns:
            The same object if there is none.
        """
        return self._replaced(value, mark)[1] if self.containers else value

    def _replaced(self, value: JSON, mark: str) -> tuple[int, JSON]:
        """Return the fingerprint of a value, and the value with replacements."""
        if isinstance(value, dict):
            pairs = {key: self._replaced(inner, mark) for key, inner in value.items()}
            fingerprint = _fingerprint_of_object((key, pair[0]) for key, pair in pairs.items())
            changed: JSON = {key: pair[1] for key, pair in pairs.items()}
            is_same = all(pairs[key][1] is inner for key, inner in value.items())
        elif isinstance(value, list):
            items = [self._replaced(inner, mark) for inner in value]
            fingerprint, changed = _fingerprint_of_list(item[0] for item in items), [item[1] for item in items]
            is_same = all(item[1] is inner for item, inner in zip(items, value, strict=True))
        else:
            return hash(value), value
        if fingerprint in self.containers and self.containers[fingerprint] == value:
            return fingerprint, mark
        return fingerprint, value if is_same else changed


def _is_long_container(value: JSON) -> bool:
    return isinstance(value, list | dict) and any(leaves(value, MIN_KEY)) and len(orjson.dumps(value)) >= MIN_TEXT


def _check_size(texts: set[str], count: int) -> None:
    if any(len(text) > MAX_TEXT for text in texts) or sum(map(len, texts)) > MAX_TOTAL:
        raise TooManyResults(
            f"an expression that names `secrets` gives more than {MAX_TEXT:,} characters, which cannot be hidden: "
            "write the secret and the long text as two expressions, such as `{{ secrets.key }}{{ input.text }}`"
        )
    if count > MAX_TEXTS:
        raise TooManyResults(
            f"expressions that name `secrets` give more than {MAX_TEXTS} texts in one visit, which cannot be hidden"
        )


def _texts(value: JSON) -> Iterator[str]:
    """Iterate over the texts and numbers of a result; first over the JSON and the
    Python of a list or object.
    """
    if isinstance(value, list | dict):
        yield from (orjson.dumps(value).decode(), json.dumps(value, ensure_ascii=False), repr(value))
    yield from leaves(value, MIN_KEY)


def leaves(value: JSON, min_key: int = 0) -> Iterator[str]:
    """Iterate over every text and number in a value, and the keys of at least `min_key` characters.

    Short keys of a result are names that occur everywhere.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend([*(key for key in item if len(key) >= min_key), *item.values()])
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield str(item)


def _fingerprint(value: JSON) -> int:
    """Return a hash of a JSON value that is equal for equal values."""
    if isinstance(value, dict):
        return _fingerprint_of_object((key, _fingerprint(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return _fingerprint_of_list(map(_fingerprint, value))
    return hash(value)


def _fingerprint_of_object(members: Iterable[tuple[str, int]]) -> int:
    return hash(("object", frozenset(members)))


def _fingerprint_of_list(items: Iterable[int]) -> int:
    return hash(("list", *items))
