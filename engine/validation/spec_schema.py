"""Builds the JSON Schema (draft 2020-12) of a whole spec, with the node types of this host.

It follows from the models that parse a spec and from those of the configs. It has standard keywords
only, so that every validator accepts it in its strict mode; the marks of templates are in the
schemas of single configs. Pure; used by the query `specSchema` and by `treadle schema --spec`.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, count
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel
from pydantic.json_schema import models_json_schema

from engine.sdk.annotations import NODE, SPEC
from engine.sdk.node import ERROR_PORT, NodeType
from engine.sdk.node_types import NodeTypes
from engine.spec.desugar import BRANCHES, CONDITIONAL
from engine.spec.raw import RawConcurrency, RawEdge, RawJoin, RawNode, RawRetry, RawSpec
from engine.validation.graph_checks import RESERVED
from engine.validation.handles import HANDLE
from engine.validation.nested import refusal
from engine.validation.spec_checks import MAX_EDGES, MAX_NODES

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NODE_ID = r"^(?!__)[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"
SPEC_NODE, NESTED_NODE, NESTED_SPEC, FIELDS = "SpecNode", "NestedNode", "NestedSpec", "SpecNodeFields"
SHORTHAND, JSON_VALUE, PREFIXES = "ConditionalShorthand", "Json", ("Spec", "Nested")
"""Names of definitions. Generators of types use them as names of types."""
PARTS: Mapping[type[BaseModel], str] = {
    RawNode: FIELDS,
    RawEdge: "SpecEdge",
    RawRetry: "SpecRetry",
    RawJoin: "SpecJoin",
    RawConcurrency: "SpecConcurrency",
    RawSpec: "SpecFields",
}
# fmt: off
KEYWORDS = frozenset({
    "$ref", "type", "const", "enum", "default", "examples", "description", "deprecated", "required", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "minItems",
    "maxItems", "uniqueItems", "minProperties", "maxProperties", "contentEncoding", "contentMediaType",
})
FORMATS = frozenset({
    "date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid",
    "regex",
})
# fmt: on
"""The standard keywords whose values contain no schema, and the standard formats."""
ONE = ("items", "additionalProperties", "not", "contains", "propertyNames")
SEVERAL, NAMED = ("anyOf", "oneOf", "allOf", "prefixItems"), ("properties", "patternProperties")
"""Keywords whose values are a list of schemas, and schemas by name; those of ONE are a schema."""
TYPED = frozenset({"$ref", "type", "enum", "const", "properties", *SEVERAL})
"""Keywords of which a schema without any accepts every value."""


def spec_schema(types: NodeTypes) -> Schema:
    """Return the JSON Schema of specs on this host. It must not be changed: calls share it.

    What it accepts has the right fields and types. `validateSpec` checks more: templates, ports,
    the graph, and fields of a config that exclude each other.
    """
    return _spec_schema(tuple(types[name] for name in sorted(types)))


@lru_cache(maxsize=8)
def _spec_schema(kinds: tuple[NodeType[Any], ...]) -> Schema:
    names = _Names(kinds)
    defs = _definitions(names)
    fields = defs.pop(PARTS[RawSpec])
    nested = [kind for kind in kinds if refusal(kind) is None]
    for kind in kinds:
        defs |= _node_definitions(kind, names, defs)
    defs[SPEC_NODE] = {"title": SPEC_NODE, "anyOf": list(_alternatives(kinds, names))}
    defs[NESTED_NODE] = {"title": NESTED_NODE, "anyOf": [_nested_node(kind, names, defs) for kind in nested]}
    defs[NESTED_SPEC] = _spec(NESTED_SPEC, fields, {"anyOf": list(_alternatives(nested, names))})
    root = _spec("Spec", fields, _ref(SPEC_NODE))
    return {"$schema": DIALECT, **root, "$defs": _used(defs, root, [names.port(kind) for kind in kinds])}


class _Names:
    """The names of the definitions of node types and of their configs, each of them once."""

    def __init__(self, kinds: Sequence[NodeType[Any]]) -> None:
        self._kinds: dict[str, str] = {}
        self.configs: dict[type[BaseModel], str] = {}
        for kind in kinds:
            self._kinds[kind.name] = _unique(_pascal(kind.name), [*self._kinds.values(), *PREFIXES])
            # Several node types may have the same config.
            self.configs.setdefault(kind.Config, f"{self._kinds[kind.name]}Config")

    def node(self, kind: NodeType[Any]) -> str:
        return f"{self._kinds[kind.name]}Node"

    def port(self, kind: NodeType[Any]) -> str:
        return f"{self._kinds[kind.name]}Port"

    def config(self, kind: NodeType[Any]) -> str:
        return self.configs[kind.Config]

    def taken(self) -> list[str]:
        """Return every name that no other model may have."""
        own = [f"{name}{suffix}" for name in self._kinds.values() for suffix in ("Node", "Port", "Config")]
        return [*own, *PARTS.values(), "Spec", SPEC_NODE, NESTED_NODE, NESTED_SPEC, SHORTHAND, JSON_VALUE]


def _unique(name: str, taken: Collection[str]) -> str:
    numbered = (f"{name}{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


def _used(defs: Mapping[str, Schema], root: Schema, names: Sequence[str]) -> dict[str, Schema]:
    """Return the definitions that the root or another one refers to, and those with these names."""
    found, stack = set(names), [root, *(defs[name] for name in names)]
    while stack:
        value: Any = stack.pop()
        if isinstance(value, dict):
            name = str(value.get("$ref")).rpartition("/")[2]
            if name in defs and name not in found:
                found.add(name)
                stack.append(defs[name])
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return {name: defs[name] for name in sorted(found)}


def _spec(title: str, fields: Schema, node: Schema) -> Schema:
    nodes = {"type": "array", "items": node, "minItems": 1, "maxItems": MAX_NODES}
    edges = _or_null({"type": "array", "items": _ref(PARTS[RawEdge]), "maxItems": MAX_EDGES})
    properties = {**fields["properties"], "nodes": nodes, "edges": edges}
    return {"title": title, "type": "object", "properties": properties, "required": ["nodes"]}


# The definitions of the models.


def _definitions(names: _Names) -> dict[str, Schema]:
    """Return the definitions of all models: the parts of a spec, and the configs with their parts."""
    own = {**names.configs, **PARTS}
    models = list(_reachable([*own]))
    refs, generated = models_json_schema([(model, "validation") for model in models], ref_template="{model}")
    defs: dict[str, Schema] = generated.get("$defs", {})
    chosen = {key: _unique(key, names.taken()) for key in defs}
    for model in models:
        key = str(refs[model, "validation"]["$ref"])
        _add_aliases(model, defs[key])
        chosen[key] = own.get(model, chosen[key])
    cleaned = {chosen[key]: {"title": chosen[key], **_standard(schema, chosen)} for key, schema in defs.items()}
    cleaned[JSON_VALUE] = _json_value()
    _complete_parts(cleaned)
    return cleaned


def _reachable(models: Sequence[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """Yield models, and the models in the annotations of their fields."""
    stack: list[Any] = list(models)
    seen: set[type[BaseModel]] = set()
    while stack:
        item = stack.pop()
        if isinstance(item, type) and issubclass(item, BaseModel):
            if item not in seen:
                seen.add(item)
                yield item
                stack += [field.annotation for field in item.model_fields.values()]
        else:
            stack += [*get_args(item), *([item.__value__] if hasattr(item, "__value__") else [])]


def _add_aliases(model: type[BaseModel], schema: Schema) -> None:
    """Add the other names of fields, as properties that are deprecated."""
    properties: Schema = schema.get("properties", {})
    for name, field in model.model_fields.items():
        choice = field.validation_alias
        names = choice.choices if isinstance(choice, AliasChoices) else [choice or field.alias or name]
        first, *others = [one for one in names if isinstance(one, str)] or [name]
        for other in others:
            properties[other] = {**properties[first], "description": f"Another name of `{first}`.", "deprecated": True}
        if others and first in schema.get("required", ()):
            schema["required"] = [one for one in schema["required"] if one != first]
            schema.setdefault("allOf", []).append({"anyOf": [{"required": [one]} for one in (first, *others)]})


def _standard(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a schema of pydantic with standard keywords only, and with our names of definitions."""
    if not isinstance(schema, dict):
        return schema
    clean: Schema = {key: value for key, value in schema.items() if key in KEYWORDS}
    if clean.get("default", "") is None:
        del clean["default"]  # A field that is absent need not mean null.
    for key, value in schema.items():
        if key in ONE:
            clean[key] = _standard(value, names)
        elif key in SEVERAL:
            clean[key] = [_standard(one, names) for one in value]
        elif key in NAMED:
            clean[key] = {name: _standard(one, names) for name, one in value.items()}
    if schema.get("format") in FORMATS:
        clean["format"] = schema["format"]
    if not clean.keys() & TYPED:
        return _with_nested({**clean, "allOf": [_ref(JSON_VALUE)]} if clean else _ref(JSON_VALUE), schema.get("format"))
    return _with_nested(_with_reference(clean, names), schema.get("format"))


def _with_reference(schema: Schema, names: Mapping[str, str]) -> Schema:
    """Return a schema whose `$ref` stands alone: generators of types then use its name."""
    if "$ref" not in schema:
        return schema
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    reference = _ref(names.get(schema["$ref"], schema["$ref"]))
    return {**rest, "allOf": [reference, *rest.get("allOf", ())]} if rest else reference


def _json_value() -> Schema:
    inner = _ref(JSON_VALUE)
    options: list[Schema] = [{"type": name} for name in ("null", "boolean", "number", "string")]
    options += [{"type": "array", "items": inner}, {"type": "object", "additionalProperties": inner}]
    return {"title": JSON_VALUE, "description": "Any JSON value.", "anyOf": options}


def _with_nested(schema: Schema, mark: object) -> Schema:
    """Return the schema of a field that holds a node or a spec with the definition of these."""
    if mark not in (NODE, SPEC):
        return schema
    name = NESTED_NODE if mark == NODE else NESTED_SPEC
    return {**schema, "allOf": [*schema.get("allOf", ()), _or_null(_ref(name))]}


# The definitions of the parts of a spec.


def _complete_parts(defs: dict[str, Schema]) -> None:
    """Add what a spec accepts in addition to the models of its parts."""
    fields: Schema = defs[FIELDS]["properties"]
    for name in ("type", "config"):
        del fields[name]
    defs[FIELDS]["required"] = ["id"]
    fields["id"] |= {"pattern": NODE_ID, "not": {"enum": sorted(RESERVED)}}
    axes = {name: {"type": "number"} for name in ("x", "y")}
    fields["position"] = {**fields["position"], **_or_null({"type": "object", "properties": axes})}
    fields["join"] = {
        "description": fields["join"]["description"],
        "anyOf": [*defs[PARTS[RawJoin]]["properties"]["mode"]["allOf"], _ref(PARTS[RawJoin])],
    }
    edge: Schema = defs[PARTS[RawEdge]]["properties"]
    edge[HANDLE] = {
        "type": ["string", "null"],
        "description": "As React Flow saves it. Read as `port` if there is none and the source has such a port.",
    }


def _node_definitions(kind: NodeType[Any], names: _Names, defs: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the definitions of the nodes of a type, and of its ports."""
    config = defs[names.config(kind)]
    properties, required = _type_and_config(kind, names, config)
    if kind.waits:  # The time limit of a node is that of its attempts.
        properties |= {key: {"type": "null"} for key in ("timeoutS", "timeout_s")}
    node = _node(names.node(kind), kind.description, properties, required)
    if kind.deprecated:
        node |= {"deprecated": True}
    found = {names.node(kind): node, names.port(kind): _ports(kind, names.port(kind))}
    if kind.name == CONDITIONAL:
        found[SHORTHAND] = _shorthand(config["properties"])
    return found


def _type_and_config(kind: NodeType[Any], names: _Names, config: Schema) -> tuple[Schema, list[str]]:
    """Return the properties `type` and `config` of a node, and which of them are required."""
    reference = _ref(names.config(kind))
    is_needed = bool(config.get("required") or config.get("allOf"))
    properties = {"type": {"const": kind.name}, "config": reference if is_needed else _or_null(reference)}
    return properties, ["type", "config"] if is_needed else ["type"]


def _node(title: str, description: str, properties: Schema, required: Sequence[str]) -> Schema:
    own = {"type": "object", "properties": properties, "required": list(required)}
    return {"title": title, "description": description, "allOf": [_ref(FIELDS), own]}


def _shorthand(config: Schema) -> Schema:
    """Return the schema of a `conditional` with fields of its config on the node itself."""
    fields = {name: config[name] for name in ("condition", *BRANCHES)}
    inner = _or_null({"type": "object", "properties": fields, "additionalProperties": False})
    properties = {"type": {"const": CONDITIONAL}, **fields, "config": inner}
    description = "A `conditional` with fields of its config on the node itself."
    return _node(SHORTHAND, description, properties, ["type", "condition"])


def _ports(kind: NodeType[Any], title: str) -> Schema:
    """Return the schema of the names of a type's ports; any text if the config names some of them."""
    names, paths = [*kind.ports, ERROR_PORT], [f"`{path}`" for path in kind.port_paths()]
    if not paths:
        return {"title": title, "description": f"A port of a `{kind.name}`.", "enum": names}
    known = ", ".join(f"`{name}`" for name in names)
    description = f"A port of a `{kind.name}`: {known}, or one that its config names in {' or '.join(paths)}."
    return {"title": title, "description": description, "type": "string", "examples": names}


def _nested_node(kind: NodeType[Any], names: _Names, defs: Mapping[str, Schema]) -> Schema:
    """Return the schema of a node inside the config of another one: its type and its config."""
    properties, required = _type_and_config(kind, names, defs[names.config(kind)])
    return {"type": "object", "properties": properties, "required": required}


def _alternatives(kinds: Sequence[NodeType[Any]], names: _Names) -> Iterator[Schema]:
    for kind in kinds:
        yield _ref(names.node(kind))
        if kind.name == CONDITIONAL:
            yield _ref(SHORTHAND)


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _pascal(name: str) -> str:
    """Return the name of a node type as the name of a type: `wait_event` becomes `WaitEvent`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
