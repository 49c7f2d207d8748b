"""How `treadle/echo` fills a JSON Schema: by rules that anybody can follow with a pencil. docs/models.md has them for users.

- A choice (`enum`, or `anyOf`/`oneOf` of `const`s) is the value of which most words stand in the prompt, its own and those
  of its `description`; where none does, the `default`, else the first. Small words, such as `the`, do not count.
- A boolean is whether a word of its name or its `description` stands in the prompt.
- A number is the first one in the prompt that fits its bounds, else its `default`, else the nearest bound to 0.
- A string is the prompt. An object has all of its properties, a list as many items as it must have, and at least one.
"""

import re
from typing import Any

from engine.types import JSON

_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)")
_SMALL = frozenset(
    _WORD.findall(
        "a an and are as at be but by do for from has have if in is it its no none not of on one or so than that the their "
        "them there this to was were what when where whether which who with"
    )
)
MAX_DEPTH = 20
MAX_ITEMS = 100
MIN_STEM = 4
"""Letters from which on a word stands for those that begin with it: charge, charged, charges."""


def answer(schema: JSON, prompt: str) -> JSON:
    """A value by the rules above. Whether it fits the whole schema is for whoever asked to check."""
    return _Filling(schema, prompt).value(schema, "", 0)


class _Filling:
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
        for several in ("anyOf", "oneOf"):
            if options := schema.get(several):
                first = next((one for one in options if self._type(one, depth) != "null"), options[0])
                return self.value(first, name, depth + 1)
        return self._typed(schema, name, depth)

    def _typed(self, schema: dict[str, Any], name: str, depth: int) -> JSON:
        kind = self._type(schema, depth)
        if kind == "object":
            found = schema.get("properties") or {}
            return {key: self.value(of, key, depth + 1) for key, of in found.items()}
        if kind == "array":
            items = schema.get("items", {"type": "string"})
            return [self.value(items, name, depth + 1)] * min(max(int(schema.get("minItems", 1)), 1), MAX_ITEMS)
        if kind == "boolean":
            return self._score(f"{name} {schema.get('title', '')} {schema.get('description', '')}") > 0
        if kind in ("number", "integer"):
            return self._number(schema, is_whole=kind == "integer")
        return None if kind == "null" else self._prompt[: schema.get("maxLength")]

    def _resolved(self, schema: JSON, depth: int) -> JSON:
        """With `$ref` looked up and `allOf` laid over each other."""
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
            kind = next((one for one in kind if one != "null"), "null")
        return kind or ("object" if isinstance(schema, dict) and "properties" in schema else "string")

    def _choices(self, schema: dict[str, Any]) -> list[tuple[JSON, str]]:
        """(value, the words that speak for it)"""
        if "enum" in schema:
            return [(value, str(value)) for value in schema["enum"]]
        options = schema.get("anyOf") or schema.get("oneOf") or []
        if not all(isinstance(one, dict) and "const" in one for one in options):
            return []
        return [
            (one["const"], f"{one['const']} {one.get('title', '')} {one.get('description', '')}") for one in options
        ]

    def _choice(self, schema: dict[str, Any], choices: list[tuple[JSON, str]]) -> JSON:
        best, score = max(((value, self._score(words)) for value, words in choices), key=lambda found: found[1])
        return best if score else schema.get("default", choices[0][0])

    def _score(self, text: str) -> int:
        return sum(self._is_said(word) for word in set(_WORD.findall(text.lower())) - _SMALL)

    def _is_said(self, word: str) -> bool:
        if word in self._words:
            return True
        return len(word) >= MIN_STEM and any(
            len(said) >= MIN_STEM and (said.startswith(word) or word.startswith(said)) for said in self._words
        )

    def _number(self, schema: dict[str, Any], *, is_whole: bool) -> float | int:
        low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
        for text in _NUMBER.findall(self._prompt):
            number = float(text)
            if low <= number <= high and (not is_whole or number.is_integer()):
                return int(number) if number.is_integer() else number
        default: float | int = schema.get("default", min(max(0, low), high))
        return default
