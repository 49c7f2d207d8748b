"""The JSON Schema of every config is good enough to draw a form from, of every type that there is."""

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
    """Every field of a config, those of the objects in it as well, with where it is."""
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
def test_every_field_has_a_title_and_says_what_it_is(name: str) -> None:
    for path, field in fields(name):
        assert field.get("title"), path
        assert field.get("description", "").endswith((".", "?")), path
        assert field["title"][0].isupper(), path


@pytest.mark.parametrize("name", TYPES)
def test_a_field_has_an_example_unless_its_choices_say_enough(name: str) -> None:
    for path, field in fields(name):
        options = [field, *field.get("anyOf", ())]
        if not any("enum" in option or "const" in option or option.get("type") == "boolean" for option in options):
            assert field.get("examples"), path


@pytest.mark.parametrize("name", TYPES)
def test_formats_are_those_that_builders_are_told_of(name: str) -> None:
    for path, field in fields(name):
        for part in (field, field.get("items", {}), *field.get("anyOf", ())):
            assert part.get("format", "template") in FORMATS, path


@pytest.mark.parametrize("name", TYPES)
def test_a_type_can_stand_in_a_palette(name: str) -> None:
    kind = TYPES[name]
    assert kind.title and kind.description.endswith(".")
    assert (kind.category, kind.icon) != ("", "")
    kind.Config.model_validate(kind.example)
    assert kind.output_schema or name == "human", "what it gives is not said"  # a human's `schema` says it
