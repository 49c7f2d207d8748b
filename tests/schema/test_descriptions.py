"""Everything in the schema has a description, and every line of descriptions.toml describes something."""

from graphql import build_schema

from schema.descriptions import elements, first, sections
from schema.schema import as_sdl, schema

GRAPH = schema._schema


def test_every_type_field_argument_and_enum_value_has_a_description() -> None:
    everything = list(elements(GRAPH))
    assert len(everything) > 900
    assert [names[0] for element, names in everything if not (element.description or "").strip()] == []


def test_the_descriptions_are_printed() -> None:
    printed = build_schema(as_sdl())
    assert [names[0] for element, names in elements(printed) if not element.description] == []


def test_every_line_of_the_file_describes_something() -> None:
    texts = {(section, key): text for section, keys in sections().items() for key, text in keys.items()}
    used = {
        found
        for element, names in elements(GRAPH)
        if (found := first(names)) is not None and element.description == texts[found]
    }
    assert sorted(texts.keys() - used) == []


def test_descriptions_are_sentences() -> None:
    wrong = {text for keys in sections().values() for text in keys.values() if not text.endswith((".", "…"))}
    assert wrong == set()
