"""Find the values in a node's config that its JSON Schema marks by `format`.

Formats are `template`, `expression`, `node`, `spec`, names of models and others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.problems import join_path
from engine.types import JSON

TEMPLATE, EXPRESSION, NODE, SPEC = "template", "expression", "node", "spec"
STORED_TEMPLATE: dict[str, JSON] = {"format": TEMPLATE, "secrets": False}
"""The mark of a template whose result is stored, so that it cannot use secrets."""
STORED_EXPRESSION: dict[str, JSON] = {"format": EXPRESSION, "secrets": False}
_WHOLE = (TEMPLATE, EXPRESSION)
"""Formats of values that have no marked values inside."""


class AnnotatedValue(NamedTuple):
    """A marked value, its path, and the part of the schema that marks it."""

    path: str
    value: JSON
    schema: Mapping[str, Any]

    @property
    def format(self) -> str:
        return str(self.schema["format"])


def annotated_values(schema: Any, value: JSON, path: str, defs: Mapping[str, Any]) -> Iterator[AnnotatedValue]:
    """Find every marked value, outer values before inner ones.

    Args:
        schema: The JSON Schema of `value`, as pydantic writes it.
        value: A config or a part of one. It need not match the schema.
        path: The path of `value`, such as `nodes[2].config`.
        defs: The `$defs` of the whole schema.
    """
    if not isinstance(schema, dict) or not isinstance(value, str | dict | list):
        return
    if isinstance(schema.get("format"), str):
        yield AnnotatedValue(path, value, schema)
        if schema["format"] in _WHOLE:
            return
    if isinstance(reference := schema.get("$ref"), str):
        yield from annotated_values(defs.get(reference.rpartition("/")[2]), value, path, defs)
    else:
        for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
            yield from annotated_values(option, value, path, defs)
        if isinstance(value, dict):
            named, rest = schema.get("properties", {}), schema.get("additionalProperties")
            for key, inner in value.items():
                yield from annotated_values(named.get(key, rest), inner, join_path(path, key), defs)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                yield from annotated_values(schema.get("items"), inner, join_path(path, index), defs)


@dataclass(frozen=True, slots=True, eq=False)
class MapScope:
    """The names that a template inside a map node can use, in addition to those of the map node.

    `bits` gives each node of the map's inner spec one bit. `before` is the sum of the bits of the
    nodes that can have run before the template is rendered; None means all of them.
    """

    bits: Mapping[str, int]
    before: int | None


class TemplateText(NamedTuple):
    """A text of a spec that is a template or an expression.

    Only those in a node's config can use secrets, and only those of a node that asks a model can use
    the thread.
    """

    path: str
    text: str
    is_expression: bool
    sees_secrets: bool = False
    inside: MapScope | None = None
    sees_thread: bool = False
