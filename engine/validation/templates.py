"""What can be wrong with the templates of a spec: their syntax, and the nodes they ask for. Evaluates nothing.

Which texts are templates is what the JSON Schema of a node type says: `format` is `template` or `expression`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from minijinja import TemplateError
from pydantic import AliasChoices

from engine.events import JSON
from engine.expressions import evaluator
from engine.expressions.analysis import SECRETS, Use, uses
from engine.expressions.lexer import has_code
from engine.problems import FieldProblem, join_path
from engine.sdk.annotations import EXPRESSION, TEMPLATE, marked
from engine.sdk.node import NodeConfig, NodeType

SCOPE = frozenset({"input", "nodes", "run", "secrets"})
ITEM, INDEX = "item", "index"
OF_AN_ITEM = frozenset({ITEM, INDEX})
"""What is known inside a `map` alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """What a text inside of a map knows beside what the map does: its item, and the nodes of the spec that it is in.

    `before` are the bits of those nodes that can have run; None: all.
    """

    bits: Mapping[str, int]
    before: int | None


class Text(NamedTuple):
    """A text of a spec that is a template or an expression. Only those in a node's config can see secrets."""

    path: str
    text: str
    is_expression: bool
    sees_secrets: bool = False
    inside: Inside | None = None


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


def texts(config: type[NodeConfig], value: JSON, path: str) -> Iterator[Text]:
    """Every template and expression in a node's config."""
    schema = schema_of(config)
    yield from dict.fromkeys(_marked(schema, value, path, schema.get("$defs", {})))


def texts_of(kind: NodeType[Any], value: JSON, path: str) -> Iterator[Text]:
    """Those of a node with this config, and of the nodes inside of it."""
    yield from texts(kind.Config, value, path)
    yield from kind.texts_within(value, path)


def secrets_of(kind: NodeType[Any], value: JSON) -> frozenset[str]:
    """The secrets that the templates of a node's config name."""
    return frozenset(use.name for text in texts_of(kind, value, "") for use in secrets_in(text) if use.name)


def secrets_in(text: Text) -> tuple[Use, ...]:
    """Each once; a use without a name is one that names none, and is refused."""
    try:
        return uses(text.text, expression=text.is_expression).secrets if SECRETS in text.text else ()
    except TemplateError:
        return ()  # said elsewhere


def _marked(schema: Any, value: JSON, path: str, defs: Mapping[str, Any]) -> Iterator[Text]:
    for place in marked(schema, value, path, defs):
        sees_secrets = _sees_secrets(place.schema)
        if place.format == EXPRESSION and isinstance(place.value, str):
            yield Text(place.path, place.value, True, sees_secrets)
        elif place.format == TEMPLATE:
            for text in template_texts(place.value, place.path):
                yield text._replace(sees_secrets=sees_secrets)


def _sees_secrets(schema: Mapping[str, Any]) -> bool:
    """A field whose value is kept as the templates give it, such as another run's input, says `"secrets": false`."""
    return schema.get("secrets") is not False


def template_texts(value: JSON, path: str) -> Iterator[Text]:
    """Every text with code in it, inside a value that is a template throughout."""
    stack: list[tuple[JSON, tuple[str | int, ...]]] = [(value, ())]
    while stack:
        item, parts = stack.pop()
        if isinstance(item, str):
            if has_code(item):
                yield Text(join_path(path, *parts), item, False)
        elif isinstance(item, dict):
            stack.extend((inner, (*parts, key)) for key, inner in reversed(item.items()))
        elif isinstance(item, list):
            stack.extend((inner, (*parts, index)) for index, inner in _reversed(item))


def _reversed(items: list[JSON]) -> Iterator[tuple[int, JSON]]:
    return zip(range(len(items) - 1, -1, -1), reversed(items), strict=True)


@dataclass(frozen=True, slots=True)
class Reader:
    """The node or edge that a text belongs to. `before` are the bits of the nodes that can have run; None: all."""

    node_id: str | None
    edge_id: str | None
    before: int | None


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes that a text may ask for. `unread` are there, but nothing more is known of them."""

    bits: Mapping[str, int]
    unread: frozenset[str]

    def check(self, text: Text, reader: Reader) -> Iterator[FieldProblem]:
        """Everything wrong with one text, as far as can be told before it is evaluated."""
        for message, line, column in evaluator.check(text.text, expression=text.is_expression):
            yield FieldProblem(
                text.path, "TEMPLATE", message, node_id=reader.node_id, edge_id=reader.edge_id, line=line, column=column
            )
        try:
            used = uses(text.text, expression=text.is_expression).uses
        except TemplateError:
            return  # said above
        found = [(use, self._wrong(use, reader, text.inside)) for use in used]
        found += [(use, _wrong_secret(use, text)) for use in secrets_in(text)]
        for use, wrong in sorted(found, key=lambda one: (one[0].line, one[0].column)):
            if wrong is not None:
                yield FieldProblem(
                    text.path,
                    *wrong,
                    node_id=reader.node_id,
                    edge_id=reader.edge_id,
                    line=use.line,
                    column=use.column,
                )

    def _wrong(self, use: Use, reader: Reader, inside: Inside | None) -> tuple[str, str] | None:
        if inside is not None and use.name in inside.bits:
            return _early(use, inside.bits[use.name], inside.before)
        if inside is not None and not use.is_node and use.name in OF_AN_ITEM:
            return None
        if use.name in self.unread or (not use.is_node and use.name in SCOPE):
            return None
        bit = self.bits.get(use.name)
        if bit is None and use.is_node:
            return "UNKNOWN_NODE", f"there is no node {use.name!r}"
        if bit is None:
            if use.name in OF_AN_ITEM and inside is None:
                return "UNKNOWN_NAME", f"`{use.name}` is known inside a `map` alone"
            told = f"{use.name!r} is neither a node nor `input`, `nodes`, `run` or `secrets`"
            return "UNKNOWN_NAME", told + self._meant(use.name)
        return _early(use, bit, reader.before)

    def _meant(self, name: str) -> str:
        """`my-node.output` is a difference: what may have been meant by `my`."""
        for node_id in self.bits:
            if node_id.startswith((f"{name}-", f"{name}.")):
                return f'; a node whose id has other signs is written `nodes["{node_id}"]`'
        return ""


def _early(use: Use, bit: int, before: int | None) -> tuple[str, str] | None:
    if before is None or before & bit:
        return None
    return "NOT_YET_RUN", f"node {use.name!r} cannot have run yet: no way leads from it to here"


def _wrong_secret(use: Use, text: Text) -> tuple[str, str] | None:
    if not text.sees_secrets:
        return "SECRET", f"secrets are known inside node calls alone: {text.path} sees none"
    if not use.name:
        return "SECRET", "a secret is asked for by its name alone: `secrets.name` or `secrets['name']`"
    return None
