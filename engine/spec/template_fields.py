"""Find the templates and expressions in a node's config by the `format` of its JSON Schema."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from minijinja import TemplateError
from pydantic import AliasChoices

from engine.expressions.analysis import SECRETS, Use, uses
from engine.expressions.lexer import has_code
from engine.problems import join_path
from engine.sdk.annotations import EXPRESSION, TEMPLATE, TemplateText, annotated_values
from engine.sdk.node import NodeConfig, NodeType
from engine.types import JSON


@lru_cache(maxsize=256)
def schema_of(config: type[NodeConfig]) -> dict[str, Any]:
    """The config's JSON Schema, with every name that a field may be written by."""
    schema = config.model_json_schema(by_alias=False)
    properties = schema.get("properties", {})
    for name, field in config.model_fields.items():
        given = field.validation_alias
        for alias in given.choices if isinstance(given, AliasChoices) else (given, field.alias):
            if isinstance(alias, str):
                properties[alias] = properties.get(name, {})
    return schema


def texts(config: type[NodeConfig], value: JSON, path: str) -> Iterator[TemplateText]:
    """Every template and expression in a node's config."""
    schema = schema_of(config)
    yield from dict.fromkeys(_marked(schema, value, path, schema.get("$defs", {})))


def texts_of(kind: NodeType[Any], value: JSON, path: str) -> Iterator[TemplateText]:
    """Those of a node with this config, and of the nodes inside of it."""
    yield from texts(kind.Config, value, path)
    yield from kind.texts_within(value, path)


def secrets_of(kind: NodeType[Any], value: JSON) -> frozenset[str]:
    """The secrets that the templates of a node's config name."""
    return frozenset(use.name for text in texts_of(kind, value, "") for use in secrets_in(text) if use.name)


def secrets_in(text: TemplateText) -> tuple[Use, ...]:
    """Each once; a use without a name is one that names none, and is refused."""
    try:
        return uses(text.text, expression=text.is_expression).secrets if SECRETS in text.text else ()
    except TemplateError:
        return ()  # said elsewhere


def _marked(schema: Any, value: JSON, path: str, defs: Mapping[str, Any]) -> Iterator[TemplateText]:
    for place in annotated_values(schema, value, path, defs):
        sees_secrets = _sees_secrets(place.schema)
        if place.format == EXPRESSION and isinstance(place.value, str):
            yield TemplateText(place.path, place.value, True, sees_secrets)
        elif place.format == TEMPLATE:
            for text in template_texts(place.value, place.path):
                yield text._replace(sees_secrets=sees_secrets)


def _sees_secrets(schema: Mapping[str, Any]) -> bool:
    """A field whose value is kept as the templates give it, such as another run's input, says `"secrets": false`."""
    return schema.get("secrets") is not False


def template_texts(value: JSON, path: str) -> Iterator[TemplateText]:
    """Every text with code in it, inside a value that is a template throughout."""
    stack: list[tuple[JSON, tuple[str | int, ...]]] = [(value, ())]
    while stack:
        item, parts = stack.pop()
        if isinstance(item, str):
            if has_code(item):
                yield TemplateText(join_path(path, *parts), item, False)
        elif isinstance(item, dict):
            stack.extend((inner, (*parts, key)) for key, inner in reversed(item.items()))
        elif isinstance(item, list):
            stack.extend((inner, (*parts, index)) for index, inner in _reversed(item))


def _reversed(items: list[JSON]) -> Iterator[tuple[int, JSON]]:
    return zip(range(len(items) - 1, -1, -1), reversed(items), strict=True)
