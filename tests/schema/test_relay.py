"""Global ids, caches of clients, and roots that fail or find nothing, each by itself."""

import json
from dataclasses import replace
from typing import Any

import pytest
from graphql import GraphQLField, GraphQLNonNull, GraphQLObjectType, get_named_type

from engine.states import NodeStatus
from persistence.db.ids import new_id
from resolvers.context import Context
from resolvers.loaders import Loaders
from schema.schema import client_cache, schema
from tests.journal_worker import JournalWorker, accept_run
from tests.paths import ROOT
from tests.schema_client import call, new_workflow

GRAPH = schema._schema
NODE = """query($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on WorkflowDraft { revision } ... on Secret { name }
    ... on NodeState { nodeId status visits } } }"""


async def test_drafts_secrets_and_node_states_are_found_by_their_ids(
    context: Context, worker: JournalWorker, project: str
) -> None:
    workflow_id = await new_workflow(context)
    draft = (await call(context, "query($id: ID!) { workflow(id: $id) { draft { id } } }", id=workflow_id))["workflow"]
    secret_id = new_id("sec")
    insert = (
        "INSERT INTO secrets (id, project_id, name, value, key_id, updated_by) VALUES ($1, $2, 'key', $3, 'k', 'me')"
    )
    await context.database.pool.execute(insert, secret_id, project, b"x")
    held = await worker.claim((await accept_run(context.database, context.caller, project)).run)
    first = await held.node("a", NodeStatus.RUNNING, visits=1)
    await held.node("a", NodeStatus.COMPLETED, visits=1, output=1, has_output=True)
    live = f"{held.run_id}/a"
    ids = [draft["draft"]["id"], secret_id, live, f"{live}@{first}", f"{live}@999", f"{held.run_id}/nope", "run_x/a"]
    nodes = (await call(context, NODE, ids=ids))["nodes"]
    assert nodes == [
        {"__typename": "WorkflowDraft", "id": ids[0], "revision": 1},
        {"__typename": "Secret", "id": secret_id, "name": "key"},
        {"__typename": "NodeState", "id": live, "nodeId": "a", "status": "COMPLETED", "visits": 1},
        {"__typename": "NodeState", "id": f"{live}@{first}", "nodeId": "a", "status": "RUNNING", "visits": 1},
        None,
        None,
        None,
    ]
    stranger = replace(context.caller, subject="stranger", roles={})
    context.caller, context.loaders = stranger, Loaders(context.database, stranger)
    assert (await call(context, NODE, ids=ids))["nodes"] == [None] * len(ids)


def test_the_file_for_caches_of_clients_is_up_to_date() -> None:
    committed = json.loads((ROOT / "schema" / "client_cache.json").read_text("utf-8"))
    assert committed == client_cache(), "run `make schema`"
    assert {"EdgeState", "PageInfo", "RunPayload"} <= set(committed["keyless"])
    assert {"WorkflowDraft", "Secret", "NodeState"} <= set(committed["possibleTypes"]["Node"])


@pytest.mark.parametrize("root", [GRAPH.query_type, GRAPH.mutation_type])
def test_every_root_of_a_query_or_mutation_is_nullable(root: GraphQLObjectType) -> None:
    assert [name for name, field in root.fields.items() if isinstance(field.type, GraphQLNonNull)] == []


async def test_a_root_that_fails_leaves_the_others(context: Context) -> None:
    query = '{ bad: runs(first: 0) { nodes { id } } worse: workflows(after: "x") { nodes { id } } good: viewer { subject } }'
    result = await schema.execute(query, context_value=context)
    assert result.data == {"bad": None, "worse": None, "good": {"subject": "tester"}}
    assert sorted(error.path or [] for error in result.errors or []) == [["bad"], ["worse"]], result.errors


def id_arguments(field: GraphQLField) -> list[str]:
    return [
        name for name, argument in field.args.items() if get_named_type(argument.type).name == "ID" and name != "ids"
    ]


NAMED = {
    name: arguments
    for name, field in (GRAPH.query_type or GraphQLObjectType("None", {})).fields.items()
    if (arguments := id_arguments(field))
}
UNKNOWN = {"id": "run_00000000000000000000000000", "projectId": "prj_7zzzzzzzzzzzzzzzzzzzzzzzzz"}
EXAMPLES = {"String": '"x"'}
"""Values of further required arguments by type; an empty object for the others."""
IGNORED = ("validateSpec",)
"""Fields that take a project and read nothing of it."""


@pytest.mark.parametrize("name", NAMED)
async def test_an_unknown_object_is_null_and_an_unknown_parent_is_an_error(context: Context, name: str) -> None:
    field = (GRAPH.query_type or GraphQLObjectType("None", {})).fields[name]
    values: dict[str, Any] = {argument: UNKNOWN.get(argument, "x") for argument in NAMED[name]}
    rest = "".join(
        f", {argument}: {EXAMPLES.get(str(kind.type.of_type), '{}')}"
        for argument, kind in field.args.items()
        if isinstance(kind.type, GraphQLNonNull) and argument not in values
    )
    arguments = ", ".join(f'{argument}: "{value}"' for argument, value in values.items())
    result = await schema.execute(f"{{ {name}({arguments}{rest}) {{ __typename }} }}", context_value=context)
    assert result.data == {name: None} or name in IGNORED
    codes = [str(error.extensions["code"]) for error in result.errors or [] if error.extensions]
    assert codes == ([] if NAMED[name] == ["id"] or name in IGNORED else ["NOT_FOUND"])
