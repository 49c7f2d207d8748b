"""Every mutation acts once for each idempotency key. The calls are those of the walk through the schema."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, get_named_type, is_leaf_type
from redis.asyncio import Redis

from app.settings import Settings
from persistence.caller import Caller, Role
from persistence.db.tables import metadata
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from resolvers.context import Context
from schema.schema import schema
from tests.schema.access.calls import MUTATIONS
from tests.schema.access.documents import GRAPH, object_type
from tests.schema.access.objects import ProjectObjects, fill, store_objects
from tests.schema_client import LINEAR, call, mutate, new_workflow, with_output

KEY = "idempotencyKey"
NOT_STORED = {"testNode", "testTrigger"}
"""Mutations whose answer is not stored: a repeat is refused."""
OF_FIRST_CALL = {"createApiKey": "token"}
"""What only the first call returns, because it is not stored."""


@pytest.fixture
async def objects(context: Context, redis: Redis, tmp_path: Path) -> ProjectObjects:
    secrets = await open_secrets(context.database, KeySource.of(Settings(data_dir=tmp_path)))
    context.resources, context.public_url = {"secrets": secrets}, "https://treadle.example.com"
    [own] = await store_objects(context, redis, ["OwnProject"])
    return own


ROWS = " UNION ALL ".join(
    f"SELECT '{table.name}' AS name, md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table.name} t"
    for table in metadata.sorted_tables
)


async def all_rows(context: Context) -> list[tuple[str, ...]]:
    """Return a hash of the rows of each table."""
    return sorted(tuple(row) for row in await context.database.pool.fetch(ROWS))


async def answer_of(context: Context, name: str, input: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the ids and scalars of the payload of a mutation, and the codes of its problems."""
    field = object_type("Mutation").fields[name]
    kind = get_named_type(field.type)
    assert isinstance(kind, GraphQLObjectType)
    parts = []
    for part, one in kind.fields.items():
        named = get_named_type(one.type)
        if is_leaf_type(named):
            parts.append(part)
        elif isinstance(named, GraphQLObjectType) and "id" in named.fields:
            parts.append(f"{part} {{ id }}")
    text = (
        f"mutation ($i: {field.args['input'].type}) {{ {name}(input: $i) {{ {' '.join(parts)} errors {{ code }} }} }}"
    )
    result = await schema.execute(text, variable_values={"i": input}, context_value=context)
    assert result.errors is None and result.data is not None, (name, result.errors)
    payload = result.data[name]
    return payload, [problem["code"] for problem in payload.pop("errors")]


def variations(name: str, input: dict[str, Any], run_id: str) -> Iterator[dict[str, Any]]:
    """Yield inputs that differ from `input` in one argument."""
    kind = get_named_type(object_type("Mutation").fields[name].args["input"].type)
    assert isinstance(kind, GraphQLInputObjectType)
    for argument, field in kind.fields.items():
        changed: dict[str, Any] = {"String": "another", "Int": 7, "ID": run_id, "JSON": {"another": 1}}
        value = changed.get(get_named_type(field.type).name)
        if argument != KEY and value is not None:
            yield {**input, argument: value}


def test_every_mutation_takes_a_key_and_has_a_call_here() -> None:
    fields = object_type("Mutation").fields
    kinds = {name: get_named_type(field.args["input"].type) for name, field in fields.items()}
    assert [name for name, kind in kinds.items() if KEY not in kind.fields] == []
    assert set(kinds) == {call.name for call in MUTATIONS}
    assert str(GRAPH.type_map["VersionInput"].fields[KEY].type) == "String"


async def test_a_repeat_changes_nothing_and_another_input_is_a_conflict(objects: ProjectObjects) -> None:
    """Each call of the table is made, repeated, and made with the same key and other arguments."""
    admin = objects.caller(Role.ADMIN)
    object.__setattr__(admin.caller, "may_create_projects", True)
    for number, one in enumerate(MUTATIONS):
        input = {**fill(one.arguments, objects.ids)["input"], KEY: f"key {number}"}
        first, codes = await answer_of(admin, one.name, input)
        assert codes == [], (one, codes)
        before = await all_rows(admin)
        again, codes = await answer_of(admin, one.name, input)
        if one.name in NOT_STORED:
            assert codes == ["CONFLICT"], one
        else:
            assert codes == [], (one, codes)
            assert again == {**first, OF_FIRST_CALL.get(one.name, "-"): None} if one.name in OF_FIRST_CALL else first
        refused = [
            (await answer_of(admin, one.name, other))[1] for other in variations(one.name, input, objects.ids["run"])
        ]
        # Keys of runs belong to the project of the object, which has to be found first.
        assert ["CONFLICT"] in refused or refused == [["NOT_FOUND"]], (one, refused)
        assert await all_rows(admin) == before, one


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_out_of_range_is_refused(context: Context, key: str) -> None:
    payload = await mutate(context, "createWorkflow", "workflow { id }", name="w", spec=LINEAR, idempotencyKey=key)
    assert [problem["code"] for problem in payload["errors"]] == ["VALIDATION"]
    assert payload["errors"][0]["errors"][0]["field"] == "input.idempotencyKey"


async def test_calls_with_one_key_at_the_same_time_act_once(context: Context) -> None:
    workflow_id = await new_workflow(context)
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("createWorkflow", "workflow { id }", {"name": "once", "spec": LINEAR}),
        ("saveDraft", "draft { revision }", {"workflowId": workflow_id, "spec": with_output(2), "expectedRevision": 1}),
        ("createVersion", "version { id } created", {"workflowId": workflow_id}),
        ("deleteWorkflow", "deletedId", {"id": workflow_id}),
    ]
    for name, answer, input in calls:
        repeats = (mutate(context, name, answer, **input, idempotencyKey=name) for _ in range(5))
        payloads = [json.dumps(payload) for payload in await asyncio.gather(*repeats)]
        assert len(set(payloads)) == 1 and '"errors": []' in payloads[0], payloads
    found = await call(context, "{ workflows { nodes { name } } }")
    assert [one["name"] for one in found["workflows"]["nodes"]].count("once") == 1


async def test_a_refused_call_leaves_its_key_free(context: Context) -> None:
    workflow_id = await new_workflow(context)
    input = {"workflowId": workflow_id, "spec": with_output(2), "expectedRevision": 1, KEY: "a key"}
    refused = await mutate(context, "saveDraft", "draft { revision }", **{**input, "expectedRevision": 9})
    assert [problem["code"] for problem in refused["errors"]] == ["CONFLICT"]
    saved = await mutate(context, "saveDraft", "draft { revision }", **input)
    assert saved == {"draft": {"revision": 2}, "errors": []}


async def test_a_key_that_the_caller_used_in_a_project_it_no_longer_sees_is_a_conflict(
    context: Context, caller: Caller, project: str
) -> None:
    other = (await mutate(context, "createProject", "project { id }", name="other"))["project"]["id"]
    for projects in ([project], [other]):
        context.caller = replace(caller, roles=dict.fromkeys(projects, Role.ADMIN))
        async with asyncio.timeout(30):
            input = {"name": "once", "spec": LINEAR, "projectId": projects[0], KEY: "a key"}
            payload = await mutate(context, "createWorkflow", "workflow { id }", **input)
    assert [problem["code"] for problem in payload["errors"]] == ["CONFLICT"]
