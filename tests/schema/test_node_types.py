"""Node types of packages in the catalog: usable ones, and ones that could not be loaded."""

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
