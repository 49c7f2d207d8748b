"""Messages and descriptions name only fields that exist in the config of a node type."""

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest

from engine.nodes.registry import BUILT_IN
from engine.sdk.node import NodeType
from engine.spec.template_fields import schema_of
from tests.paths import ROOT

NAME = re.compile(r"`([a-z]\w*(?:\.[a-z]\w*)+)`")
NOT_FIELDS = re.compile(
    r"(input|options|secrets|run|item|nodes|ctx|meta|re|json|datetime|\w+\.output|treadle)\b|.*\.(toml|py|lower)$"
)
"""Names in templates, files and Python, which are no fields of a config."""
FILES = {
    path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "engine" / "nodes").rglob("*.py"))
}  # fmt: skip


def fields_of(schema: Any, defs: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Iterate over the paths of all fields that a schema has, such as `response.maxBytes`."""
    if not isinstance(schema, dict) or depth > 6:
        return
    if reference := schema.get("$ref"):
        yield from fields_of(defs[reference.rpartition("/")[2]], defs, prefix, depth + 1)
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from fields_of(option, defs, prefix, depth + 1)
    for name, field in schema.get("properties", {}).items():
        yield prefix + name
        yield from fields_of(field, defs, f"{prefix}{name}.", depth + 1)
    yield from fields_of(schema.get("items"), defs, prefix, depth + 1)


def fields(kind: type[NodeType[Any]]) -> set[str]:
    schema = schema_of(kind.Config)
    by_alias = kind.Config.model_json_schema()
    return {*fields_of(schema, schema.get("$defs", {})), *fields_of(by_alias, by_alias.get("$defs", {}))}


KNOWN = set().union(*(fields(kind) for kind in BUILT_IN))


@pytest.mark.parametrize("file", FILES)
def test_a_message_names_fields_that_exist(file: str) -> None:
    tree = ast.parse(FILES[file].read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    named = {name for text in texts for name in NAME.findall(text) if not NOT_FIELDS.match(name)}
    assert named - KNOWN == set()


def test_the_fields_are_found() -> None:
    assert {"response.maxBytes", "pagination.items", "body.content", "retry.maxAttempts"} <= KNOWN
