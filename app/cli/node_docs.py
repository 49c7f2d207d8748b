"""Generates docs/nodes.md from the built-in node types (`make docs`).

A test checks that the committed page is up to date.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from engine.nodes.registry import BUILT_IN
from engine.sdk.node import NodeType

HEAD = """\
# Node types

`make docs` generates this page from the node types. The query `nodeTypes` returns the same
information as JSON Schema. A field marked *template* may contain `{{ … }}`, and a field marked
*expression* is an expression; see [expressions.md](expressions.md). For the fields that every node
has besides its config, and for the handling of failures, see [spec.md](spec.md). Every type also
has the port `error`, for `onError: branch`.
"""
NOTES = {
    "http": """\
Addresses that are not on the public internet, such as `localhost`, are refused with `HTTP_BLOCKED`. The
setting `TREADLE_HTTP_ALLOW` names those that nodes may call: host names and networks, separated by
commas. For a service on this machine, start Treadle with

```sh
TREADLE_HTTP_ALLOW=localhost make up
```

and use `"url": "http://localhost:3000/orders"`. An address in the form `127.0.0.1` needs
`TREADLE_HTTP_ALLOW=127.0.0.1`. [tools.md](tools.md#http) has the rules.

If the status is not expected, the error has the beginning of the body in `details.body`. It is a text,
also if the response is JSON: with `onError: branch` write
`(call.output.error.details.body | fromjson).message`.
"""
}
"""Text about a type that follows its description."""
MAX_DEPTH = 6
"""Levels of nested fields that the page lists. Deeper fields are only in the JSON Schema."""
NO_DEFAULT = "required"


def render_page() -> str:
    """Render the whole page as Markdown."""
    node_types = [node_type() for node_type in BUILT_IN]
    rows = "\n".join(f"| [`{one.name}`](#{one.name}) | {_cell(one.description)} |" for one in node_types)
    sections = "\n".join(_section(one) for one in node_types)
    return f"{HEAD}\n| Type | What it does |\n|---|---|\n{rows}\n\n{sections}"


def _section(node_type: NodeType[Any]) -> str:
    parts = [f"## {node_type.name}\n\n**{node_type.title}.** {node_type.description}\n"]
    if node_type.name in NOTES:
        parts.append(NOTES[node_type.name])
    if node_type.deprecated:
        parts.append(f"Deprecated: {node_type.deprecated}\n")
    parts.append(_config(node_type.Config.model_json_schema()))
    parts.append(_ports(node_type))
    parts.append(_output(node_type.output_schema))
    if node_type.example:
        example = {"id": "my_node", "type": node_type.name, "config": node_type.example}
        parts.append(f"Example:\n\n{_json_block(example)}")
    return "\n".join(part for part in parts if part)


def _config(schema: Mapping[str, Any]) -> str:
    rows = list(dict.fromkeys(_rows(schema, "", schema.get("$defs", {}), 0)))
    if not rows:
        return "It has no config.\n"
    head = "| Config | Type | Default | |\n|---|---|---|---|\n"
    return head + "".join(f"| `{name}` | {kind} | {default} | {text} |\n" for name, kind, default, text in rows)


def _rows(
    schema: Mapping[str, Any], prefix: str, defs: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, str, str, str]]:
    """Yield (field, type, default, description) for each field, followed by its nested fields."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        default = NO_DEFAULT if name in required else _default(field)
        yield path, _type(field, defs), default, _description(field)
        if depth < MAX_DEPTH:
            for nested, suffix in _nested_objects(field, defs):
                yield from _rows(nested, f"{path}{suffix}.", defs, depth + 1)


def _nested_objects(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the schemas of objects that a field may contain, each with the suffix "" or "[]"."""
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
    names = dict.fromkeys(_type_name(option, defs) for option in _options(field, defs) if option.get("type") != "null")
    limits = [_limit(option) for option in [field, *_options(field, defs)]]
    kind = " or ".join(names) + next((limit for limit in limits if limit), "")
    marks = dict.fromkeys(one["format"] for one in [field, *_options(field, defs)] if "format" in one)
    return ", ".join([_cell(kind), *(f"*{mark}*" for mark in marks)])


def _type_name(option: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    if "const" in option:
        return f"`{option['const']}`"
    if "enum" in option:
        return ", ".join(f"`{value}`" for value in option["enum"])
    kind = option.get("type", "any JSON")
    if isinstance(kind, list):
        return " or ".join(_type_name({"type": one}, defs) for one in kind)
    if kind == "array" and isinstance(items := option.get("items"), dict) and items:
        item_type = " or ".join(dict.fromkeys(_type_name(item, defs) for item in _options(items, defs)))
        return f"list of {item_type}"
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


def _description(field: Mapping[str, Any]) -> str:
    return _cell(
        " ".join(str(part).rstrip(".") + "." for part in (field.get("title"), field.get("description")) if part)
    )


def _ports(node_type: NodeType[Any]) -> str:
    fixed = ", ".join(f"`{port}`" for port in node_type.ports)
    paths = " and ".join(f"`{path}`" for path in node_type.port_paths())
    configured = f"those that its config names in {paths}" if paths else ""
    ports = " and ".join(part for part in (fixed, configured) if part)
    return f"Ports: {ports}.\n" if ports else ""


def _output(schema: Mapping[str, Any]) -> str:
    if not schema:
        return ""
    if schema.keys() <= {"description"}:
        return f"Output: {schema['description']}\n"
    fields = _rows(schema, "", schema.get("$defs", {}), 0)
    rows = [f"| `{name}` | {kind} | {text} |" for name, kind, _, text in fields]
    if not rows:
        return f"Output, as JSON Schema:\n\n{_json_block(schema)}"
    return "\n".join(["| Output | Type | |", "|---|---|---|", *rows, ""])


def _json_block(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render_page())
