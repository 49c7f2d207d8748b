"""The defaults of a schema complete a value, and never change what is there."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.values.json_schema import complete_inputs
from engine.values.schema_defaults import with_defaults

LIMIT = {"type": "integer", "default": 10}
NESTED = {"properties": {"limit": LIMIT, "name": {"type": "string"}}}
DEFS = {"$defs": {"options": {**NESTED, "default": {}}, "a/b": {"default": "slash"}}}

CASES: dict[str, tuple[Any, Any, Any]] = {
    "a missing member": ({"properties": {"n": LIMIT}}, {}, {"n": 10}),
    "a member that is present": ({"properties": {"n": LIMIT}}, {"n": 3}, {"n": 3}),
    "null is present": ({"properties": {"n": LIMIT}}, {"n": None}, {"n": None}),
    "a default of null": ({"properties": {"n": {"default": None}}}, {}, {"n": None}),
    "a default of false": ({"properties": {"n": {"default": False}}}, {}, {"n": False}),
    "a member of a member": ({"properties": {"o": NESTED}}, {"o": {"name": "x"}}, {"o": {"name": "x", "limit": 10}}),
    "no parent is made": ({"properties": {"o": NESTED}}, {}, {}),
    "a default with defaults": ({"properties": {"o": {**NESTED, "default": {}}}}, {}, {"o": {"limit": 10}}),
    "items of a list": ({"properties": {"l": {"items": NESTED}}}, {"l": [{}, 1]}, {"l": [{"limit": 10}, 1]}),
    "items by place": ({"prefixItems": [NESTED], "items": {}}, [{}, {}], [{"limit": 10}, {}]),
    "a reference": ({**DEFS, "properties": {"o": {"$ref": "#/$defs/options"}}}, {}, {"o": {"limit": 10}}),
    "an escaped reference": ({**DEFS, "properties": {"o": {"$ref": "#/$defs/a~1b"}}}, {}, {"o": "slash"}),
    "its own default is first": (
        {**DEFS, "properties": {"o": {"$ref": "#/$defs/options", "default": {"limit": 1}}}},
        {},
        {"o": {"limit": 1}},
    ),
    "a reference to the root": (
        {"properties": {"n": LIMIT, "child": {"$ref": "#"}}},
        {"child": {"child": {}}},
        {"n": 10, "child": {"n": 10, "child": {"n": 10}}},
    ),
    "all of": ({"allOf": [{"properties": {"n": LIMIT}}, NESTED]}, {}, {"n": 10, "limit": 10}),
    "no branch is chosen": ({"anyOf": [{"properties": {"n": LIMIT}}]}, {}, {}),
    "a reference to itself": ({"$ref": "#", "properties": {"n": LIMIT}}, {}, {"n": 10}),
    "an unknown reference": ({"properties": {"n": {"$ref": "#/nowhere"}}}, {}, {}),
    "no object": ({"properties": {"n": LIMIT}}, [1], [1]),
    "a schema that is true": (True, {"a": 1}, {"a": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_missing_members_get_their_defaults(name: str) -> None:
    schema, value, expected = CASES[name]
    before = repr(value)
    assert with_defaults(value, schema) == expected
    assert repr(value) == before


def test_a_default_is_validated_like_a_value_of_the_client() -> None:
    schema = {"properties": {"n": {"type": "integer", "default": "ten"}}, "required": ["n"]}
    completed, [problem] = complete_inputs({}, schema)
    assert (completed, problem.field, problem.code) == ({"n": "ten"}, "inputs.n", "TYPE")
    assert complete_inputs({}, {"properties": {"n": LIMIT}, "required": ["n"]}) == ({"n": 10}, [])


def test_two_values_never_share_a_default() -> None:
    schema = {"properties": {"l": {"default": []}}}
    first, second = with_defaults({}, schema), with_defaults({}, schema)
    first["l"].append(1)
    assert second == {"l": []}


ENDLESS = {
    "a default within itself": {"properties": {"x": {"$ref": "#", "default": {}}}},
    "a part that is used again and again": {
        "$defs": {
            f"d{n}": {
                "properties": {"a": {"$ref": f"#/$defs/d{n + 1}"}, "b": {"$ref": f"#/$defs/d{n + 1}"}},
                "default": {},
            }
            for n in range(40)
        },
        "$ref": "#/$defs/d0",
    },
}


@pytest.mark.parametrize("name", ENDLESS)
def test_defaults_without_end_are_a_problem(name: str) -> None:
    _, [problem] = complete_inputs({}, ENDLESS[name])
    assert problem.code == "SCHEMA"
    assert "its defaults" in problem.message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
SCHEMAS = st.recursive(
    st.fixed_dictionaries({}, optional={"default": VALUES}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "default": VALUES,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "items": inner,
            "allOf": st.lists(inner, max_size=2),
        },
    ),
    max_leaves=8,
)


def is_within(small: Any, large: Any) -> bool:
    """Whether `large` has everything that `small` has."""
    if isinstance(small, dict) and isinstance(large, dict):
        return all(key in large and is_within(value, large[key]) for key, value in small.items())
    if isinstance(small, list) and isinstance(large, list):
        return len(small) == len(large) and all(map(is_within, small, large))
    return type(small) is type(large) and bool(small == large)


@given(VALUES, SCHEMAS)
def test_defaults_only_add_and_are_complete_after_once(value: Any, schema: Any) -> None:
    completed = with_defaults(value, schema)
    assert is_within(value, completed)
    assert with_defaults(completed, schema) == completed
