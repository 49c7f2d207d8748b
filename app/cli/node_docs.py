"""docs/nodes.md, written from the node types themselves: `make docs`. A test sees that the committed page is current."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from engine.nodes.registry import BUILT_IN
from engine.sdk.node import NodeType

HEAD = """\
# Node types

Written by `make docs` from the types themselves; `nodeTypes` of the API has the same as JSON Schema. A field marked *template*
may hold `{{ … }}`, one marked *expression* is one; see [expressions.md](expressions.md). What every node has beside its config,
and how failures are handled, is in [spec.md](spec.md). Every type has the port `error` too, for `onError: branch`.
"""
DEEP = 6
"""Levels of fields inside fields that are shown; deeper ones are in the JSON Schema."""
NO_DEFAULT = "required"


def page() -> str:
    kinds = [kind() for kind in BUILT_IN]
    listed = "\n".join(f"| [`{kind.name}`](#{kind.name}) | {_cell(kind.description)} |" for kind in kinds)
    return f"{HEAD}\n| Type | What it does |\n|---|---|\n{listed}\n\n" + "\n".join(_section(kind) for kind in kinds)


def _section(kind: NodeType[Any]) -> str:
    parts = [f"## {kind.name}\n\n**{kind.title}.** {kind.description}\n"]
    if kind.deprecated:
        parts.append(f"Deprecated: {kind.deprecated}\n")
    parts.append(_config(kind.Config.model_json_schema()))
    parts.append(_ports(kind))
    parts.append(_output(kind.output_schema))
    if kind.example:
        parts.append(f"Example:\n\n{_block({'id': 'my_node', 'type': kind.name, 'config': kind.example})}")
    return "\n".join(part for part in parts if part)


def _config(schema: Mapping[str, Any]) -> str:
    rows = list(dict.fromkeys(_rows(schema, "", schema.get("$defs", {}), 0)))
    if not rows:
        return "It has no config.\n"
    head = "| Config | Type | Default | |\n|---|---|---|---|\n"
    return head + "".join(f"| `{name}` | {kind} | {default} | {told} |\n" for name, kind, default, told in rows)


def _rows(
    schema: Mapping[str, Any], prefix: str, defs: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, str, str, str]]:
    """(field, type, default, description), fields inside fields below the one that they are in."""
    needed = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        default = NO_DEFAULT if name in needed else _default(field)
        yield path, _type(field, defs), default, _told(field)
        if depth < DEEP:
            for inner, step in _inside(field, defs):
                yield from _rows(inner, f"{path}{step}.", defs, depth + 1)


def _inside(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The objects that a field may hold, with how one gets to them."""
    for option in _options(field, defs):
        if "properties" in option:
            yield option, ""
        elif isinstance(items := option.get("items"), dict):
            for item in _options(items, defs):
                if "properties" in item:
                    yield item, "[]"


def _options(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in field:
        field = defs[field["$ref"].rpartition("/")[2]]
    choices = [*field.get("anyOf", ()), *field.get("oneOf", ()), *field.get("allOf", ())]
    if not choices:
        yield field
    for choice in choices:
        yield from _options(choice, defs)


def _type(field: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    names = dict.fromkeys(_name(option, defs) for option in _options(field, defs) if option.get("type") != "null")
    limits = [_limit(option) for option in [field, *_options(field, defs)]]
    kind = " or ".join(names) + next((limit for limit in limits if limit), "")
    marks = dict.fromkeys(one["format"] for one in [field, *_options(field, defs)] if "format" in one)
    return ", ".join([_cell(kind), *(f"*{mark}*" for mark in marks)])


def _name(option: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    if "const" in option:
        return f"`{option['const']}`"
    if "enum" in option:
        return ", ".join(f"`{value}`" for value in option["enum"])
    kind = option.get("type", "any JSON")
    if isinstance(kind, list):
        return " or ".join(_name({"type": one}, defs) for one in kind)
    if kind == "array" and isinstance(items := option.get("items"), dict) and items:
        inner = " or ".join(dict.fromkeys(_name(item, defs) for item in _options(items, defs)))
        return f"list of {inner}"
    return {"array": "list", "string": "text", "integer": "whole number"}.get(str(kind), str(kind))


def _limit(option: Mapping[str, Any]) -> str:
    low, high = option.get("minimum"), option.get("maximum")
    if low is not None and high is not None:
        return f" ({low:,} to {high:,})"
    if option.get("exclusiveMinimum") is not None:
        return f" (over {option['exclusiveMinimum']:,}" + (f", at most {high:,})" if high is not None else ")")
    return f" (at least {low:,})" if low is not None else ""


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    if default in (None, {}, []) or (isinstance(default, dict) and not any(default.values())):
        return ""
    return f"`{_cell(json.dumps(default, ensure_ascii=False))}`"


def _told(field: Mapping[str, Any]) -> str:
    return _cell(
        " ".join(str(part).rstrip(".") + "." for part in (field.get("title"), field.get("description")) if part)
    )


def _ports(kind: NodeType[Any]) -> str:
    named = ", ".join(f"`{port}`" for port in kind.ports)
    more = f"those that its config names in `{kind.ports_from}`" if kind.ports_from else ""
    told = " and ".join(part for part in (named, more) if part)
    return f"Ports: {told}.\n" if told else ""


def _output(schema: Mapping[str, Any]) -> str:
    if not schema:
        return ""
    if schema.keys() <= {"description"}:
        return f"Output: {schema['description']}\n"
    rows = [f"| `{name}` | {kind} | {told} |" for name, kind, _, told in _rows(schema, "", schema.get("$defs", {}), 0)]
    if not rows:
        return f"Output, as JSON Schema:\n\n{_block(schema)}"
    return "\n".join(["| Output | Type | |", "|---|---|---|", *rows, ""])


def _block(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
