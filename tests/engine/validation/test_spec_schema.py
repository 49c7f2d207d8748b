"""The JSON Schema of a whole spec agrees with the validation of specs."""

from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from jsonschema_rs import Draft202012Validator

from engine.sdk.node import NodeConfig, NodeType
from engine.sdk.node_types import NodeTypes
from engine.validation.spec_schema import KEYWORDS, NAMED, ONE, SEVERAL, spec_schema
from engine.validation.validator import validate
from tests.engine.node_runner import TYPES

SCHEMA = Draft202012Validator(spec_schema(TYPES), offline=True)
FILES = [*sorted(Path("examples").glob("*.json")), *sorted(Path("engine/workflow_templates").glob("*.json"))]
ASK = {"id": "a", "type": "human", "config": {"prompt": "?"}}
MAKE = {"id": "a", "type": "transform", "config": {"output": 1}}
EACH = {"items": "{{ input }}", "node": {"type": "transform", "config": {"output": "{{ item }}"}}}

ACCEPTED: dict[str, Any] = {
    "edges null": {"nodes": [MAKE], "edges": None},
    "names in snake_case": {"nodes": [MAKE | {"timeout_s": 3, "on_error": "fail", "retry": {"max_attempts": 2}}]},
    "a join as a text": {"nodes": [MAKE | {"join": "any"}]},
    "a join as an object": {"nodes": [MAKE | {"join": {"mode": "any", "cancelOthers": True}}]},
    "x and y": {"nodes": [MAKE | {"x": 3, "y": 4.5}]},
    "unknown fields of a builder": {"nodes": [MAKE | {"selected": True}], "viewport": {}},
    "a config null": {"nodes": [{"id": "a", "type": "start", "config": None}]},
    "a conditional with its fields on the node": {"nodes": [{"id": "a", "type": "conditional", "condition": "true"}]},
    "sourceHandle": {
        "nodes": [ASK, MAKE | {"id": "b"}],
        "edges": [{"source": "a", "target": "b", "sourceHandle": "answered"}],
    },
    "a map over a node": {"nodes": [{"id": "a", "type": "map", "config": EACH}]},
    "a map over a spec": {
        "nodes": [{"id": "a", "type": "map", "config": {"items": [1], "spec": {"nodes": [MAKE | {"id": "i"}]}}}]
    },
    "on_item_error": {"nodes": [{"id": "a", "type": "map", "config": EACH | {"on_item_error": "collect"}}]},
    "a limit of runs": {"nodes": [MAKE], "concurrency": {"limit": 2, "onLimit": "cancelOldest"}},
}
REFUSED: dict[str, Any] = {
    "no object": [],
    "no nodes": {},
    "an empty list of nodes": {"nodes": []},
    "nodes as an object": {"nodes": {}},
    "no id": {"nodes": [{"type": "start"}]},
    "a number as id": {"nodes": [MAKE | {"id": 1}]},
    "a reserved id": {"nodes": [MAKE | {"id": "input"}]},
    "an id with a space": {"nodes": [MAKE | {"id": "a b"}]},
    "an unknown type": {"nodes": [{"id": "a", "type": "transfrom"}]},
    "a number as label": {"nodes": [MAKE | {"label": 1}]},
    "a config as a list": {"nodes": [MAKE | {"config": []}]},
    "no config": {"nodes": [{"id": "a", "type": "transform"}]},
    "an unknown field of a config": {"nodes": [MAKE | {"config": {"output": 1, "outptu": 2}}]},
    "a text as number in a config": {
        "nodes": [{"id": "a", "type": "code", "config": {"code": "x", "timeoutS": "soon"}}]
    },
    "a text as time limit": {"nodes": [MAKE | {"timeoutS": "3"}]},
    "a time limit of 0": {"nodes": [MAKE | {"timeoutS": 0}]},
    "a time limit of a wait": {"nodes": [ASK | {"timeoutS": 3}]},
    "an unknown onError": {"nodes": [MAKE | {"onError": "ignore"}]},
    "a retry as a number": {"nodes": [MAKE | {"retry": 3}]},
    "101 attempts": {"nodes": [MAKE | {"retry": {"maxAttempts": 101}}]},
    "an unknown join": {"nodes": [MAKE | {"join": "some"}]},
    "maxVisits as a text": {"nodes": [MAKE | {"maxVisits": "3"}]},
    "an edge without target": {"nodes": [MAKE], "edges": [{"source": "a"}]},
    "a number as port": {"nodes": [MAKE], "edges": [{"source": "a", "target": "__end__", "port": 1}]},
    "inputs as a list": {"nodes": [MAKE], "inputs": []},
    "a limit of 0 runs": {"nodes": [MAKE], "concurrency": {"limit": 0}},
    "a map over a wait": {
        "nodes": [{"id": "a", "type": "map", "config": EACH | {"node": {"type": "human", "config": ASK["config"]}}}]
    },
    "a map over a wrong config": {
        "nodes": [{"id": "a", "type": "map", "config": EACH | {"node": {"type": "transform", "config": {"x": 1}}}}]
    },
    "a map over a wrong spec": {
        "nodes": [{"id": "a", "type": "map", "config": {"items": [], "spec": {"nodes": [MAKE | {"join": 3}]}}}]
    },
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_schema_accepts_every_example_and_template(path: Path) -> None:
    raw = orjson.loads(path.read_bytes())
    SCHEMA.validate(raw.get("spec", raw))


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_schema_accepts_what_validation_accepts(name: str) -> None:
    report = validate(ACCEPTED[name], TYPES)
    assert report.ok, report.errors
    SCHEMA.validate(ACCEPTED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_the_schema_and_validation_refuse_wrong_fields(name: str) -> None:
    assert not validate(REFUSED[name], TYPES).ok
    assert not SCHEMA.is_valid(REFUSED[name])


@pytest.mark.parametrize("name", sorted(TYPES))
def test_the_schema_has_the_example_and_the_ports_of_each_type(name: str) -> None:
    kind = TYPES[name]
    SCHEMA.validate({"nodes": [{"id": "a", "type": name, "config": kind.example}]})
    definitions = spec_schema(TYPES)["$defs"].values()
    [node] = [one for one in definitions if one["title"].endswith("Node") and _type_of(one) == name]
    ports = spec_schema(TYPES)["$defs"][node["title"].removesuffix("Node") + "Port"]
    assert set(ports.get("enum", ports.get("examples"))) == {*kind.ports, "error"}
    assert all(path in ports["description"] for path in kind.port_paths())


def _type_of(definition: dict[str, Any]) -> str | None:
    inner = definition.get("allOf", [{}])[-1].get("properties", {})
    type_: str | None = inner.get("type", {}).get("const")
    return type_


def test_the_schema_has_only_standard_keywords() -> None:
    known = {*KEYWORDS, *ONE, *SEVERAL, *NAMED, "title", "format", "$schema", "$defs"}
    stack: list[Any] = [spec_schema(TYPES)]
    while stack:
        schema = stack.pop()
        if isinstance(schema, dict):
            assert schema.keys() <= known
            stack += [schema[key] for key in ONE if key in schema]
            stack += [one for key in SEVERAL for one in schema.get(key, ())]
            stack += [one for key in (*NAMED, "$defs") for one in schema.get(key, {}).values()]


class Letter(NodeConfig):
    text: str


class Mail(NodeType[Letter]):
    name: ClassVar[str] = "spec"
    title: ClassVar[str] = "Mail"
    description: ClassVar[str] = "Sends a letter."
    Config: ClassVar[type[NodeConfig]] = Letter


class Fax(Mail):
    name: ClassVar[str] = "start.node"


class Post(Mail):
    name: ClassVar[str] = "start_node"


def test_types_of_packages_may_share_a_config_and_have_similar_names() -> None:
    types = NodeTypes([*TYPES.values(), Mail(), Fax(), Post()])
    schema = Draft202012Validator(spec_schema(types), offline=True)
    for name in ("spec", "start.node", "start_node"):
        assert schema.is_valid({"nodes": [{"id": "a", "type": name, "config": {"text": "x"}}, MAKE | {"id": "b"}]})
        assert not schema.is_valid({"nodes": [{"id": "a", "type": name, "config": {"text": 1}}]})
