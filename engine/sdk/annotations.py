"""The places in a node's config that its JSON Schema marks with a `format`: templates, names of models, code, and so on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.problems import join_path
from engine.types import JSON

TEMPLATE, EXPRESSION, NODE, SPEC = "template", "expression", "node", "spec"
_WHOLE = (TEMPLATE, EXPRESSION)
"""Whatever is inside of such a value belongs to it."""


class AnnotatedValue(NamedTuple):
    """A value, where it stands, and the part of the schema that marks it."""

    path: str
    value: JSON
    schema: Mapping[str, Any]

    @property
    def format(self) -> str:
        return str(self.schema["format"])


def annotated_values(schema: Any, value: JSON, path: str, defs: Mapping[str, Any]) -> Iterator[AnnotatedValue]:
    """Every one, from the outside in. `defs` are the schema's own definitions."""
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
    """What a text inside of a map knows beside what the map does: its item, and the nodes of the spec that it is in.

    `before` are the bits of those nodes that can have run; None: all.
    """

    bits: Mapping[str, int]
    before: int | None


class TemplateText(NamedTuple):
    """A text of a spec that is a template or an expression. Only those in a node's config can see secrets."""

    path: str
    text: str
    is_expression: bool
    sees_secrets: bool = False
    inside: MapScope | None = None
