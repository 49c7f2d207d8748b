"""The JSON Schema of every config has what a form needs: titles, descriptions, examples."""

from collections.abc import Iterator
from typing import Any

import pytest

from engine.nodes.registry import load_node_types

TYPES = load_node_types()
FORMATS = {
    "template",
    "expression",
    "secret-name",
    "model-name",
    "tool-name",
    "node",
    "node-type",
    "code",
    "spec",
    "json-schema",
}
PLAIN = {"string", "integer", "number", "boolean"}


def fields(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every field of a config with its path, including nested ones."""
    schema = TYPES[name].Config.model_json_schema()
    seen: set[str] = set()

    def within(part: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, field in part.get("properties", {}).items():
            yield f"{path}.{key}", field
            yield from within(field, f"{path}.{key}")
        for inner in (part.get("items"), *part.get("anyOf", ()), *part.get("oneOf", ())):
            if isinstance(inner, dict):
                yield from within(inner, path)
        reference = part.get("$ref", "").rpartition("/")[2]
        if reference and reference not in seen:
            seen.add(reference)
            yield from within(schema["$defs"][reference], path)

    yield from within(schema, name)


@pytest.mark.parametrize("name", TYPES)
def test_every_field_has_a_title_and_a_description(name: str) -> None:
    for path, field in fields(name):
        assert field.get("title"), path
        assert field.get("description", "").endswith((".", "?")), path
        assert field["title"][0].isupper(), path


@pytest.mark.parametrize("name", TYPES)
def test_every_field_without_choices_has_an_example(name: str) -> None:
    for path, field in fields(name):
        options = [field, *field.get("anyOf", ())]
        if not any("enum" in option or "const" in option or option.get("type") == "boolean" for option in options):
            assert field.get("examples"), path


@pytest.mark.parametrize("name", TYPES)
def test_every_format_is_a_documented_one(name: str) -> None:
    for path, field in fields(name):
        for part in (field, field.get("items", {}), *field.get("anyOf", ())):
            assert part.get("format", "template") in FORMATS, path


@pytest.mark.parametrize("name", TYPES)
def test_every_type_has_the_fields_that_a_palette_needs(name: str) -> None:
    kind = TYPES[name]
    assert kind.title and kind.description.endswith(".")
    assert (kind.category, kind.icon) != ("", "")
    kind.Config.model_validate(kind.example)
    assert kind.output_schema or name == "human", "no output_schema"  # for `human` the config has it
