"""Validation of valid specs, of the examples, and of arbitrary values."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.validation.validator import validate
from tests.engine.json_values import JSON_VALUES
from tests.engine.node_runner import TYPES
from tests.engine.spec_builders import edge, node, problems_of, spec
from tests.samples import sample


def test_a_valid_spec_has_a_plan_and_a_hash() -> None:
    raw = spec([node("a"), node("b", "{{ a.output + 1 }}"), node("c")], [edge("a>b"), edge("a>c")])
    report = validate(raw, TYPES)
    assert report.ok and not report.warnings
    assert report.plan == [["a"], ["b", "c"]]
    assert report.spec is not None and report.spec_hash is not None


def test_a_template_in_a_loop_may_name_every_node_of_the_loop() -> None:
    raw = spec(
        [node("s"), node("b", "{{ (c.output or 0) + (b.output or 0) }}"), node("c"), node("d")],
        [edge("s>b"), edge("b>c"), edge("c>b", condition="c.output < 3"), edge("c>d", condition="c.output >= 3")],
    )
    assert problems_of(raw) == set()


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_are_valid(path: Path) -> None:
    raw = orjson.loads(path.read_bytes())
    assert problems_of(raw.get("spec", raw)) == set()


def test_every_example_of_a_node_type_is_a_valid_config() -> None:
    for kind in TYPES.values():
        kind.Config.model_validate(kind.example)


IDS = st.sampled_from(["a", "b", "c", "__start__", "__end__", "input", ""])
TEXTS = st.sampled_from(["{{ a.output }}", "{{ b", "nodes['c'].output > 1", "x", "", "{% if %}"])
CONFIGS = st.dictionaries(
    st.sampled_from(["output", "condition", "true_edge", "false_edge", "cases", "seconds", "code", "default"]),
    TEXTS | JSON_VALUES | st.lists(st.fixed_dictionaries({"port": IDS, "condition": TEXTS})),
    max_size=3,
)
NODES = st.fixed_dictionaries(
    {"id": IDS | JSON_VALUES, "type": st.sampled_from([*TYPES, "nope"])},
    optional={"config": CONFIGS | JSON_VALUES, "retry": JSON_VALUES, "onError": JSON_VALUES, "join": JSON_VALUES},
)
EDGES = st.fixed_dictionaries(
    {"source": IDS, "target": IDS}, optional={"port": IDS | JSON_VALUES, "condition": TEXTS, "id": IDS | JSON_VALUES}
)
SPECS = st.fixed_dictionaries(
    {"nodes": st.lists(NODES, max_size=6), "edges": st.lists(EDGES | JSON_VALUES, max_size=8)},
    optional={"inputs": JSON_VALUES, "outputs": JSON_VALUES | st.dictionaries(IDS, TEXTS)},
)


@settings(max_examples=sample(60, 200))
@given(SPECS)
def test_validate_never_raises_for_a_value_that_resembles_a_spec(raw: Any) -> None:
    problems_of(raw)


@given(JSON_VALUES)
def test_validate_never_raises_for_any_json(raw: Any) -> None:
    problems_of(raw)
    problems_of({"nodes": raw, "edges": raw, "inputs": raw, "outputs": raw})
