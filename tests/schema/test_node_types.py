"""Node types of packages in the catalog: usable ones, and ones that could not be loaded."""

import copy
from typing import Any

from engine.nodes.registry import load_node_types
from engine.sdk.node_types import NodeTypes
from resolvers.context import Context
from tests.schema_client import call

LISTED = "{ nodeTypes { name title problem ports configSchema } }"


async def test_a_broken_package_is_listed_with_its_problem(context: Context) -> None:
    broken = {
        "fax": "fax_nodes:Fax: ImportError: no module named 'modem'",
        "start": "there is a node type 'start' already",
    }
    context.node_types = NodeTypes(load_node_types().values(), broken)
    listed = {kind["name"]: kind for kind in (await call(context, LISTED))["nodeTypes"]}
    assert listed["fax"]["problem"] == broken["fax"]
    assert listed["start"]["problem"] is None and listed["start"]["configSchema"]["type"] == "object"
    assert listed["start (package)"]["problem"] == broken["start"]
    one = await call(context, '{ nodeType(name: "fax") { problem ports } }')
    assert one["nodeType"] == {"problem": broken["fax"], "ports": []}


async def test_a_usable_node_type_has_no_problem(context: Context) -> None:
    listed = (await call(context, LISTED))["nodeTypes"]
    assert [kind["name"] for kind in listed] == sorted(context.node_types)
    assert all(kind["problem"] is None for kind in listed)


PORTS = """{ nodeTypes { name ports portsFrom
    namedPorts { name title isDefault isError } portPaths { path isDefault } } }"""


def places(config: Any, path: str) -> list[tuple[Any, str]]:
    """Return the objects in a config that a path of ports such as `cases[*].port` leads to, and the last field."""
    *lists, field = path.split("[*].")
    objects = [config]
    for name in lists:
        objects = [item for each in objects for item in each[name]]
    return [(each, field) for each in objects]


async def test_the_ports_of_a_type_are_its_named_ports_and_the_values_at_its_paths(context: Context) -> None:
    for listed in (await call(context, PORTS))["nodeTypes"]:
        kind, named = context.node_types[listed["name"]], listed["namedPorts"]
        assert [port["name"] for port in named] == listed["ports"]
        assert [port["name"] for port in named if port["isError"]] == ["error"]
        assert all(port["title"] and port["title"][0].isupper() for port in named)
        paths = [path["path"] for path in listed["portPaths"]]
        assert listed["portsFrom"] == next(iter(paths), None)
        defaults = [port for port in named if port["isDefault"]] + [p for p in listed["portPaths"] if p["isDefault"]]
        assert len(defaults) == (kind.default_port is not None)
        config = copy.deepcopy(kind.example)
        added = {str(each[field]) for path in paths for each, field in places(config, path)}
        static = {port["name"] for port in named if not port["isError"]}
        assert set(kind.ports_of(kind.Config.model_validate(config))) == static | added
        for path in paths:
            for each, field in places(config, path):
                each[field] = "renamed"
                assert "renamed" in kind.ports_of(kind.Config.model_validate(config)), (listed["name"], path)


async def test_a_switch_has_the_ports_of_its_cases_and_its_default(context: Context) -> None:
    query = '{ nodeType(name: "switch") { ports portPaths { path isDefault } } }'
    assert (await call(context, query))["nodeType"] == {
        "ports": ["error"],
        "portPaths": [{"path": "cases[*].port", "isDefault": False}, {"path": "default", "isDefault": True}],
    }
