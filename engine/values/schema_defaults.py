"""Complete a value by the `default` of its JSON Schema. Pure: a missing member gets a copy.

JSON Schema itself gives `default` no effect. The rules are those of Ajv's `useDefaults`: defaults
apply to missing members of objects that are present, through `properties`, `prefixItems`, `items`,
`allOf` and references inside the schema. Branches that may not apply (`anyOf`, `oneOf`, `if`) are
left out. Used for the input of runs, before it is validated.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from urllib.parse import unquote

from engine.types import JSON

MAX_STEPS = 100_000
"""Subschemas that are applied at most: a schema that refers to a part twice, again and again, has
exponential work."""
MAX_DEPTH = 64
"""Defaults within defaults. A schema whose default refers to itself has no end."""


class DefaultsTooLarge(ValueError):
    """The defaults of the schema have no end, or take too many steps."""


def with_defaults(value: JSON, schema: JSON) -> JSON:
    """Return the value with the defaults of its schema.

    Args:
        value: Storable JSON. It is not changed.
        schema: A JSON Schema (draft 2020-12).

    Raises:
        DefaultsTooLarge: The work exceeds MAX_STEPS or MAX_DEPTH.
    """
    return _Filler(schema).fill(value, schema, 0)


class _Filler:
    """One completion: the root of the schema, and the steps so far."""

    def __init__(self, root: JSON) -> None:
        self._root, self._steps = root, 0

    def fill(self, value: JSON, schema: JSON, depth: int) -> JSON:
        for part in self._parts(schema):
            if isinstance(value, dict):
                value = self._fill_object(value, part, depth)
            elif isinstance(value, list):
                value = self._fill_list(value, part, depth)
        return value

    def _fill_object(self, value: dict[str, JSON], schema: dict[str, Any], depth: int) -> JSON:
        properties = schema.get("properties")
        changes: dict[str, JSON] = {}
        for name, member_schema in properties.items() if isinstance(properties, dict) else ():
            if name in value:
                filled = self.fill(value[name], member_schema, depth)
                if filled is not value[name]:
                    changes[name] = filled
            elif (default := self._default(member_schema)) is not None:
                if depth >= MAX_DEPTH:
                    raise DefaultsTooLarge(f"its defaults are nested more than {MAX_DEPTH} deep")
                changes[name] = self.fill(deepcopy(default[0]), member_schema, depth + 1)
        return {**value, **changes} if changes else value

    def _fill_list(self, value: list[JSON], schema: dict[str, Any], depth: int) -> JSON:
        first = schema.get("prefixItems")
        schemas: list[JSON] = first if isinstance(first, list) else []
        rest = schema.get("items")
        if not schemas and not isinstance(rest, dict):
            return value
        filled = [
            self.fill(item, schemas[index] if index < len(schemas) else rest, depth) for index, item in enumerate(value)
        ]
        return filled if any(new is not old for new, old in zip(filled, value, strict=True)) else value

    def _default(self, schema: JSON) -> tuple[JSON] | None:
        """Return the default of a schema in a tuple; None if it has none."""
        return next(((part["default"],) for part in self._parts(schema) if "default" in part), None)

    def _parts(self, schema: JSON) -> Iterator[dict[str, Any]]:
        """Yield a schema, and the schemas that apply to the same value by `$ref` and `allOf`."""
        waiting, seen = [schema], set[int]()
        for part in waiting:  # grows
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise DefaultsTooLarge(f"its defaults take more than {MAX_STEPS:,} steps")
            if not isinstance(part, dict) or id(part) in seen:
                continue
            seen.add(id(part))
            yield part
            if isinstance(reference := part.get("$ref"), str):
                waiting.append(self._resolve(reference))
            if isinstance(all_of := part.get("allOf"), list):
                waiting += all_of

    def _resolve(self, reference: str) -> JSON:
        """Return the schema that a reference points to; None if it points to none by its path."""
        target = self._root
        if not reference.startswith("#") or (len(reference) > 1 and reference[1] != "/"):
            return None
        for step in reference[2:].split("/") if len(reference) > 1 else ():
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and name in target:
                target = target[name]
            elif isinstance(target, list) and name.isdecimal() and int(name) < len(target):
                target = target[int(name)]
            else:
                return None
        return target
