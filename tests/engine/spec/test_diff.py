"""Differences of specs: by node, field and edge, and stable when nodes are renamed."""

import copy
import json
import time
from typing import Any

import pytest

from engine.spec.diff import DiffChange, SpecDiff, spec_diff
from engine.values.json_diff import FieldDiff, json_diff

SPEC: dict[str, Any] = {
    "nodes": [
        {"id": "start", "type": "start"},
        {"id": "draft", "type": "llm", "label": "Write", "config": {"model": "echo", "prompt": "{{ input.text }}"}},
        {"id": "check", "type": "conditional", "config": {"condition": "draft.output != ''"}},
        {"id": "end", "type": "end", "config": {"output": "{{ draft.output }} {{ nodes['draft'].status }}"}},
    ],
    "edges": [
        {"source": "start", "target": "draft"},
        {"source": "draft", "target": "check"},
        {"source": "check", "target": "end", "port": "true", "condition": "draft.output"},
    ],
    "inputs": {"type": "object"},
}


def edited(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SPEC), **fields}


def renamed(spec: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    text = json.dumps(spec)
    for name in (f'"{old}"', f"'{old}'", f"{old}.output"):
        text = text.replace(name, name.replace(old, new))
    result: dict[str, Any] = json.loads(text)
    return result


def brief(diff: SpecDiff) -> tuple[list[Any], list[Any], list[str]]:
    nodes = [
        (one.node_id, one.previous_id, one.change.value, [field.path for field in one.fields]) for one in diff.nodes
    ]
    edges = [(one.edge_id, one.change.value, [field.path for field in one.fields]) for one in diff.edges]
    return nodes, edges, [field.path for field in diff.other]


def test_equal_specs_do_not_differ_and_layout_is_not_compared() -> None:
    moved = edited()
    moved["nodes"][0]["position"] = {"x": 1, "y": 2}
    moved["nodes"].reverse()
    assert brief(spec_diff(SPEC, moved)) == ([], [], [])


def test_a_changed_field_is_named_with_both_values() -> None:
    after = edited(inputs={"type": "object", "required": ["text"]})
    after["nodes"][1]["config"]["prompt"] = "Hi {{ input.text }}"
    after["nodes"][1]["retry"] = {"maxAttempts": 2}
    diff = spec_diff(SPEC, after)
    assert brief(diff) == ([("draft", None, "MODIFIED", ["config.prompt", "retry"])], [], ["inputs.required"])
    assert diff.nodes[0].fields[0] == FieldDiff("config.prompt", "{{ input.text }}", "Hi {{ input.text }}")


def test_a_renamed_node_is_one_change_without_its_references() -> None:
    after = renamed(edited(), "draft", "letter")
    assert brief(spec_diff(SPEC, after)) == ([("letter", "draft", "MODIFIED", [])], [], [])
    assert brief(spec_diff(after, SPEC)) == ([("draft", "letter", "MODIFIED", [])], [], [])


def test_a_renamed_and_changed_node_is_one_change() -> None:
    after = renamed(edited(), "draft", "letter")
    after["nodes"][1]["config"]["model"] = "other"
    assert brief(spec_diff(SPEC, after)) == ([("letter", "draft", "MODIFIED", ["config.model"])], [], [])


def test_two_names_that_are_exchanged_are_changes_of_both_nodes() -> None:
    after = edited()
    after["nodes"][1]["id"], after["nodes"][2]["id"] = "check", "draft"
    nodes, _, _ = brief(spec_diff(SPEC, after))
    assert {(node[0], node[2]) for node in nodes} == {("check", "MODIFIED"), ("draft", "MODIFIED")}


def test_several_renamed_nodes_of_equal_content_are_paired_in_order() -> None:
    before = {"nodes": [{"id": f"a{n}", "type": "transform", "config": {"output": 1}} for n in range(3)]}
    after = {"nodes": [{"id": f"b{n}", "type": "transform", "config": {"output": 1}} for n in range(4)]}
    assert brief(spec_diff(before, after))[0] == [
        *((f"b{n}", f"a{n}", "MODIFIED", []) for n in range(3)),
        ("b3", None, "ADDED", ["type", "config"]),
    ]


def test_nodes_and_edges_that_are_new_or_gone() -> None:
    after = edited()
    after["nodes"][3] = {"id": "wait", "type": "delay", "config": {"seconds": 1}}
    after["edges"] = [*after["edges"][:2], {"source": "check", "target": "wait", "port": "false"}]
    nodes, edges, _ = brief(spec_diff(SPEC, after))
    assert nodes == [("wait", None, "ADDED", ["type", "config"]), ("end", None, "REMOVED", ["type", "config"])]
    assert edges == [
        ("check:false->wait", "ADDED", ["source", "target", "port"]),
        ("check:true->end", "REMOVED", ["source", "target", "port", "condition"]),
    ]


def test_an_edge_with_an_id_keeps_it_when_it_is_moved() -> None:
    before = {"nodes": [], "edges": [{"id": "e", "source": "a", "target": "b"}]}
    after = {"nodes": [], "edges": [{"id": "e", "source": "a", "target": "c", "condition": "true"}]}
    assert brief(spec_diff(before, after))[1] == [("e", "MODIFIED", ["target", "condition"])]


@pytest.mark.parametrize("raw", [None, 1, [], {}, {"nodes": 3, "edges": "x"}, {"nodes": [1, {"id": 2}], "edges": [{}]}])
def test_a_draft_with_errors_can_be_compared(raw: Any) -> None:
    assert {one.change for one in spec_diff(raw, SPEC).nodes} == {DiffChange.ADDED}
    assert {one.change for one in spec_diff(SPEC, raw).nodes} == {DiffChange.REMOVED}


def test_specs_of_the_largest_size_are_compared_quickly() -> None:
    def large(name: str) -> dict[str, Any]:
        nodes = [
            {"id": f"{name}{n}", "type": "transform", "config": {"output": f"{{{{ {name}{n - 1}.output + {n} }}}}"}}
            for n in range(1000)
        ]
        return {"nodes": nodes, "edges": [{"source": f"{name}{n}", "target": f"{name}{n + 1}"} for n in range(999)]}

    began = time.process_time()
    diff = spec_diff(large("a"), large("b"))
    assert time.process_time() - began < 10 and diff.nodes


@pytest.mark.parametrize("id", ["my-node", "my.node", "a_b"])
def test_ids_with_dots_and_hyphens_can_be_renamed(id: str) -> None:
    def of(name: str) -> dict[str, Any]:
        end = {"id": "e", "type": "end", "config": {"output": f"{{{{ nodes['{name}'].output - x-1 }}}} {name}"}}
        return {"nodes": [{"id": name, "type": "transform", "config": {"output": 1}}, end], "edges": []}

    assert brief(spec_diff(of(id), of("other")))[0] == [("other", id, "MODIFIED", [])]


def test_values_differ_by_type_and_by_length() -> None:
    assert json_diff({"a": 1, "b": [1, 2]}, {"a": True, "b": [1]}) == [
        FieldDiff("a", 1, True),
        FieldDiff("b", [1, 2], [1]),
    ]
    assert json_diff([{"a": 1}], [{"a": 2}], "x") == [FieldDiff("x[0].a", 1, 2)]
    assert json_diff(1, 1) == []
