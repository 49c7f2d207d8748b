"""Find the templates, the secrets and the nested nodes in a node's config.

The JSON Schema of the config marks them by `format` (engine/sdk/annotations.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from minijinja import TemplateError
from pydantic import AliasChoices

from engine.expressions.analysis import SECRETS, NameUse, analyze
from engine.expressions.lexer import has_code
from engine.problems import join_path
from engine.sdk.annotations import EXPRESSION, NODE, SPEC, TEMPLATE, AnnotatedValue, TemplateText, annotated_values
from engine.sdk.node import NodeConfig, NodeType
from engine.spec.parser import parse_with_problems
from engine.types import JSON


@lru_cache(maxsize=256)
def schema_of(config: type[NodeConfig]) -> dict[str, Any]:
    """Return the JSON Schema of a config model, with all accepted names of its fields."""
    schema = config.model_json_schema(by_alias=False)
    properties = schema.get("properties", {})
    for name, field in config.model_fields.items():
        choice = field.validation_alias
        for alias in choice.choices if isinstance(choice, AliasChoices) else (choice, field.alias):
            if isinstance(alias, str):
                properties[alias] = properties.get(name, {})
    return schema


def fields_at(config: type[NodeConfig], location: Sequence[str | int]) -> list[str]:
    """Return the names of the fields that an object in a config may have.

    Args:
        config: The config model.
        location: The location of the object in an error of pydantic.
    """
    schema = schema_of(config)
    # Authors write the aliases. Inside of nested objects the schema by field names does not have them.
    by_alias = config.model_json_schema()
    defs, options = by_alias.get("$defs", {}), [schema if not location else by_alias]
    for part in location:
        inner = [_inner(option, part) for option in _options(options, defs)]
        found = [one for one in inner if one is not None]
        options = found or options  # pydantic adds the names of the members of a union
    return sorted({name for option in _options(options, defs) for name in option.get("properties", {})})


def _inner(schema: Mapping[str, Any], part: str | int) -> Any:
    rest = schema.get("additionalProperties")
    named = schema.get("properties", {}).get(part, rest if isinstance(rest, dict) else None)
    return schema.get("items") if isinstance(part, int) else named


def _options(schemas: Sequence[Any], defs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects among some schemas, with those that they refer to."""
    for schema in schemas:
        if not isinstance(schema, dict):
            continue
        if isinstance(reference := schema.get("$ref"), str):
            yield from _options([defs.get(reference.rpartition("/")[2])], defs)
            continue
        yield schema
        for name in ("anyOf", "oneOf", "allOf"):
            yield from _options(schema.get(name, ()), defs)


def config_texts(config: type[NodeConfig], value: JSON, path: str) -> Iterator[TemplateText]:
    """Find every template and expression in a node's config, nested nodes excluded.

    Args:
        config: The config model.
        value: The config, as written in the spec. It need not match the model.
        path: The path of the config in the spec.
    """
    schema = schema_of(config)
    yield from dict.fromkeys(_schema_texts(schema, value, path, schema.get("$defs", {})))


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
    """A node inside the config of another node, with its path in the spec.

    Nothing in it is validated.
    """

    path: str
    type: str
    config: JSON


def nested_nodes(config: type[NodeConfig], value: JSON, path: str) -> Iterator[NestedNode]:
    """Find the nodes inside a node's config, those of nested specs included.

    Skip what cannot be read.
    """
    for place in nested_values(config, value, path):
        if not isinstance(place.value, dict):
            continue
        if place.format == SPEC:
            parsed = parse_with_problems(place.value)
            for node, index in zip(parsed.spec.nodes, parsed.node_indexes, strict=True):
                yield NestedNode(join_path(place.path, "nodes", index), node.type, node.config)
        elif isinstance(kind := place.value.get("type"), str):
            yield NestedNode(place.path, kind, place.value.get("config", {}))


def secrets_of(kind: NodeType[Any], value: JSON, types: Mapping[str, NodeType[Any]]) -> frozenset[str]:
    """Return the names of the secrets that a node's templates use, those of nested nodes included.

    Args:
        kind: The type of the node.
        value: Its config, as written in the spec.
        types: The node types by name, to find those of nested nodes.
    """
    names = {use.name for text in config_texts(kind.Config, value, "") for use in secrets_in(text) if use.name}
    for node in nested_nodes(kind.Config, value, ""):
        if node.type in types:
            names |= secrets_of(types[node.type], node.config, types)
    return frozenset(names)


def secrets_in(text: TemplateText) -> tuple[NameUse, ...]:
    """Return the uses of secrets in a text, each once.

    A use with an empty name is not of the form `secrets.name`; validation refuses it. A text with
    wrong syntax has none, because validation reports the syntax.
    """
    try:
        return analyze(text.text, expression=text.is_expression).secrets if SECRETS in text.text else ()
    except TemplateError:
        return ()


def _schema_texts(schema: Any, value: JSON, path: str, defs: Mapping[str, Any]) -> Iterator[TemplateText]:
    for place in annotated_values(schema, value, path, defs):
        sees_secrets, sees_thread = _sees_secrets(place.schema), place.schema.get("thread") is True
        if place.format == EXPRESSION and isinstance(place.value, str):
            yield TemplateText(place.path, place.value, True, sees_secrets)
        elif place.format == TEMPLATE:
            for text in template_texts(place.value, place.path):
                yield text._replace(sees_secrets=sees_secrets, sees_thread=sees_thread)


def _sees_secrets(schema: Mapping[str, Any]) -> bool:
    """Tell whether templates of a field may use secrets.

    A field whose rendered value is stored, such as the input of another run, has `"secrets":
    false`.
    """
    return schema.get("secrets") is not False


def template_texts(value: JSON, path: str) -> Iterator[TemplateText]:
    """Find every text with code in a JSON value whose texts are all templates."""
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
