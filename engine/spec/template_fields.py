"""Find the templates and expressions in a node's config by the `format` of its JSON Schema."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from minijinja import TemplateError
from pydantic import AliasChoices

from engine.expressions.analysis import SECRETS, NameUse, analyze
from engine.expressions.lexer import has_code
from engine.problems import join_path
from engine.sdk.annotations import EXPRESSION, NODE, SPEC, TEMPLATE, AnnotatedValue, TemplateText, annotated_values
from engine.sdk.node import NodeConfig, NodeType
from engine.spec.parser import read
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


@lru_cache(maxsize=256)
def has_nested_nodes(config: type[NodeConfig]) -> bool:
    """Return whether the JSON Schema of the config has a field of the format `node` or `spec`."""
    stack: list[Any] = [schema_of(config)]
    while stack:
        schema = stack.pop()
        if isinstance(schema, dict):
            if schema.get("format") in (NODE, SPEC):
                return True
            stack.extend(schema.values())
        elif isinstance(schema, list):
            stack.extend(schema)
    return False


def nested_values(config: type[NodeConfig], value: JSON, path: str) -> Iterator[AnnotatedValue]:
    """Find the nodes and specs inside a node's config: values of the format `node` or `spec`."""
    if has_nested_nodes(config):
        schema = schema_of(config)
        places = annotated_values(schema, value, path, schema.get("$defs", {}))
        yield from (place for place in places if place.format in (NODE, SPEC))


class NestedNode(NamedTuple):
    """A node inside the config of another node, with its path in the spec. Nothing in it is validated."""

    path: str
    type: str
    config: JSON


def nested_nodes(config: type[NodeConfig], value: JSON, path: str) -> Iterator[NestedNode]:
    """Find the nodes inside a node's config, those of nested specs included. Skip what cannot be read."""
    for place in nested_values(config, value, path):
        if not isinstance(place.value, dict):
            continue
        if place.format == SPEC:
            reading = read(place.value)
            for node, index in zip(reading.spec.nodes, reading.node_at, strict=True):
                yield NestedNode(join_path(place.path, "nodes", index), node.type, node.config)
        elif isinstance(kind := place.value.get("type"), str):
            yield NestedNode(place.path, kind, place.value.get("config", {}))


def secrets_of(kind: NodeType[Any], value: JSON, types: Mapping[str, NodeType[Any]]) -> frozenset[str]:
    """Return the names of the secrets that the templates of a node's config use, nested nodes included.

    Args:
        kind: The type of the node.
        value: Its config, as written in the spec.
        types: The node types by name, to find those of nested nodes.
    """
    names = {use.name for text in texts(kind.Config, value, "") for use in secrets_in(text) if use.name}
    for node in nested_nodes(kind.Config, value, ""):
        if node.type in types:
            names |= secrets_of(types[node.type], node.config, types)
    return frozenset(names)


def secrets_in(text: TemplateText) -> tuple[NameUse, ...]:
    """Each once; a use without a name is one that names none, and is refused."""
    try:
        return analyze(text.text, expression=text.is_expression).secrets if SECRETS in text.text else ()
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
