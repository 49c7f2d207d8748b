"""Fills a JSON Schema for `treadle/echo` by fixed rules. docs/models.md explains them to users.

- A choice (`enum`, or `anyOf`/`oneOf` of `const`s) is the value with the most words in the prompt:
  its own words and those of its `description`. Without such a word it is the `default`, else the
  first value. Stop words such as `the` do not count.
- A boolean is true if the prompt contains a word of its name, its title or its `description`.
- A number is the first number in the prompt within its bounds, else its `default`, else the bound
  nearest to 0.
- A string is the prompt. An object has all of its properties. A list has its minimum number of
  items, and at least one.
"""

import re
from typing import Any

from engine.types import JSON

_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by do for from has have if in is it its no none not of on one or so than that the their "
        "them there this to was were what when where whether which who with"
    )
)
MAX_DEPTH = 20
MAX_ITEMS = 100
MIN_STEM = 4
"""Length from which on a word matches the words that begin with it: charge, charged, charges."""


def answer(schema: JSON, prompt: str) -> JSON:
    """Return a value by the rules above. The caller checks it against the whole schema."""
    return _SchemaFiller(schema, prompt).value(schema, "", 0)


class _SchemaFiller:
    """Fills one schema from one prompt."""

    def __init__(self, root: JSON, prompt: str) -> None:
        self._root, self._prompt = root, prompt
        self._words = set(_WORD.findall(prompt.lower()))

    def value(self, schema: JSON, name: str, depth: int) -> JSON:
        schema = self._resolved(schema, depth)
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return None
        if "const" in schema:
            return schema["const"]
        if choices := self._choices(schema):
            return self._choice(schema, choices)
        for keyword in ("anyOf", "oneOf"):
            if options := schema.get(keyword):
                first = next((option for option in options if self._type(option, depth) != "null"), options[0])
                return self.value(first, name, depth + 1)
        return self._typed(schema, name, depth)

    def _typed(self, schema: dict[str, Any], name: str, depth: int) -> JSON:
        kind = self._type(schema, depth)
        if kind == "object":
            properties = schema.get("properties") or {}
            return {key: self.value(inner, key, depth + 1) for key, inner in properties.items()}
        if kind == "array":
            items = schema.get("items", {"type": "string"})
            return [self.value(items, name, depth + 1)] * min(max(int(schema.get("minItems", 1)), 1), MAX_ITEMS)
        if kind == "boolean":
            return self._score(f"{name} {schema.get('title', '')} {schema.get('description', '')}") > 0
        if kind in ("number", "integer"):
            return self._number(schema, is_whole=kind == "integer")
        return None if kind == "null" else self._prompt[: schema.get("maxLength")]

    def _resolved(self, schema: JSON, depth: int) -> JSON:
        """Return the schema with `$ref` resolved and `allOf` merged."""
        while isinstance(schema, dict) and "$ref" in schema and depth <= MAX_DEPTH:
            target: JSON = self._root
            for part in str(schema["$ref"]).removeprefix("#").split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                target = target.get(key) if isinstance(target, dict) else None
            schema, depth = target, depth + 1
        for part in schema.get("allOf", []) if isinstance(schema, dict) else []:
            inner = self._resolved(part, depth + 1) if depth <= MAX_DEPTH else None
            if isinstance(inner, dict):
                properties = {**inner.get("properties", {}), **schema.get("properties", {})}
                schema = {**inner, **schema, **({"properties": properties} if properties else {})}
        return schema

    def _type(self, schema: JSON, depth: int) -> str:
        schema = self._resolved(schema, depth)
        kind = schema.get("type") if isinstance(schema, dict) else None
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        return kind or ("object" if isinstance(schema, dict) and "properties" in schema else "string")

    def _choices(self, schema: dict[str, Any]) -> list[tuple[JSON, str]]:
        """Return (value, the text whose words count for it) of each choice."""
        if "enum" in schema:
            return [(value, str(value)) for value in schema["enum"]]
        options = schema.get("anyOf") or schema.get("oneOf") or []
        if not all(isinstance(option, dict) and "const" in option for option in options):
            return []
        return [
            (option["const"], f"{option['const']} {option.get('title', '')} {option.get('description', '')}")
            for option in options
        ]

    def _choice(self, schema: dict[str, Any], choices: list[tuple[JSON, str]]) -> JSON:
        best, score = max(((value, self._score(words)) for value, words in choices), key=lambda pair: pair[1])
        return best if score else schema.get("default", choices[0][0])

    def _score(self, text: str) -> int:
        return sum(self._is_in_prompt(word) for word in set(_WORD.findall(text.lower())) - _STOP_WORDS)

    def _is_in_prompt(self, word: str) -> bool:
        if word in self._words:
            return True
        return len(word) >= MIN_STEM and any(
            len(other) >= MIN_STEM and (other.startswith(word) or word.startswith(other)) for other in self._words
        )

    def _number(self, schema: dict[str, Any], *, is_whole: bool) -> float | int:
        low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
        for text in _NUMBER.findall(self._prompt):
            number = float(text)
            if low <= number <= high and (not is_whole or number.is_integer()):
                return int(number) if number.is_integer() else number
        default: float | int = schema.get("default", min(max(0, low), high))
        return default
