"""Secrets as clients see them: set, listed and deleted, and never told, whatever is wrong with the call."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.errors import NodeFailure
from persistence.caller import Caller, Role
from persistence.secrets import key_file
from persistence.secrets.key_source import Keys
from persistence.secrets.keyring import Key
from persistence.secrets.resolver import open_secrets
from persistence.workflows import projects
from resolvers.context import Context
from resolvers.secrets import MAX_VALUE_BYTES
from schema.schema import schema
from tests.schema_client import call, mutate

VALUE = "sk-canary-81kQz0pLw2"
FIELDS = "id name createdAt updatedAt updatedBy lastUsedAt project { name }"
SET = "mutation ($i: SetSecretInput!) { setSecret(input: $i) { secret { name } errors { detail } } }"


@pytest.fixture
async def keeper(context: Context, tmp_path: Path) -> AsyncIterator[Context]:
    """A context whose server has keys."""
    context.resources = {"secrets": await open_secrets(context.database, Keys(None, tmp_path / key_file.NAME))}
    yield context


async def put(context: Context, name: str = "key", value: str = VALUE, **more: Any) -> dict[str, Any]:
    return await mutate(context, "setSecret", f"secret {{ {FIELDS} }}", name=name, value=value, **more)


async def names(context: Context, **given: Any) -> list[str]:
    found = await call(context, "query ($p: ID) { secrets(projectId: $p) { name } }", **given)
    return [secret["name"] for secret in found["secrets"]]


async def test_a_secret_is_set_listed_set_anew_and_deleted(keeper: Context, project: str) -> None:
    first = await put(keeper)
    assert first["errors"] == []
    told = {"name": "key", "updatedBy": "tester", "lastUsedAt": None, "project": {"name": "default"}}
    assert told.items() <= first["secret"].items()
    second = await put(keeper, value="another value")
    assert second["secret"]["id"] == first["secret"]["id"]
    assert second["secret"]["updatedAt"] > first["secret"]["updatedAt"]
    await put(keeper, "another", projectId=project)
    assert await names(keeper) == await names(keeper, p=project) == ["another", "key"]
    values = await keeper.resources["secrets"].resolve(project, ["key"])
    assert values == {"key": "another value"}
    gone = await mutate(keeper, "deleteSecret", "deletedId", name="key")
    assert (gone["deletedId"], gone["errors"]) == (first["secret"]["id"], [])
    assert await names(keeper) == ["another"]


async def test_deleting_what_is_not_there_is_not_found(keeper: Context) -> None:
    gone = await mutate(keeper, "deleteSecret", "deletedId", name="key")
    assert (gone["deletedId"], gone["errors"][0]["code"], gone["errors"][0]["resourceId"]) == (None, "NOT_FOUND", "key")


async def test_no_type_has_a_field_for_the_value(keeper: Context) -> None:
    found = await call(keeper, '{ __type(name: "Secret") { fields { name } } }')
    assert {field["name"] for field in found["__type"]["fields"]} == {
        "id", "name", "createdAt", "updatedAt", "updatedBy", "lastUsedAt", "project",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("", VALUE, {"input.name": "LENGTH"}),
        ("x" * 101, VALUE, {"input.name": "LENGTH"}),
        ("a-b", VALUE, {"input.name": "NAME"}),
        ("a b", VALUE, {"input.name": "NAME"}),
        ("1a", VALUE, {"input.name": "NAME"}),
        ("schlüssel", VALUE, {"input.name": "NAME"}),
        ("key\n", VALUE, {"input.name": "NAME"}),
        (VALUE, VALUE, {"input.name": "NAME"}),
        ("key", "", {"input.value": "EMPTY"}),
        ("key", "short", {"input.value": "LENGTH"}),
        ("key", "short" + " " * 50, {"input.value": "LENGTH"}),
        ("key", "x" * (MAX_VALUE_BYTES + 1), {"input.value": "TOO_LARGE"}),
        ("key", "é" * (MAX_VALUE_BYTES // 2 + 1), {"input.value": "TOO_LARGE"}),
        ("", "", {"input.name": "LENGTH", "input.value": "EMPTY"}),
    ],
)
async def test_bad_input_is_told_by_field_without_what_was_given(
    keeper: Context, name: str, value: str, expected: dict[str, str]
) -> None:
    payload = await put(keeper, name, value)
    [problem] = payload["errors"]
    assert {error["field"]: error["code"] for error in problem["errors"]} == expected
    assert VALUE not in repr(payload)
    assert await names(keeper) == []


@pytest.mark.parametrize("name", ["_", "A1", "if", "items", "x" * 100])
async def test_a_name_that_templates_can_ask_for_is_taken(keeper: Context, name: str) -> None:
    assert (await put(keeper, name))["errors"] == []
    config = {"output": f"{{{{ secrets.{name} == '{VALUE}' }}}}"}
    tried = await mutate(keeper, "testNode", "output error { message }", type="transform", config=config)
    assert (tried["output"], tried["error"]) == (True, None)


async def test_the_largest_and_the_smallest_value_are_taken(keeper: Context, project: str) -> None:
    for value in ("x" * MAX_VALUE_BYTES, "12345678", "zeile 1\nzeile 2 🔑\n"):
        assert (await put(keeper, value=value))["errors"] == []
        assert await keeper.resources["secrets"].resolve(project, ["key"]) == {"key": value}


GIVEN: list[Any] = [
    {"name": "a", "value": 1234567890123},
    {"name": "a", "value": {"a": VALUE}},
    {"name": "a", "value": [VALUE]},
    {"name": "a", "value": f"{VALUE}\0"},
    {"name": "a", "value": f"{VALUE}\ud800"},
    {"name": "a", "value": VALUE, "more": 1},
    {"name": "a", "vlue": VALUE},
    {"value": VALUE},
    {"name": 5, "value": VALUE},
    {"name": "a", "value": VALUE, "projectId": ""},
    {"name": "a", "value": VALUE, "projectId": {"a": VALUE}},
    VALUE,
    [VALUE],
]


@pytest.mark.parametrize("given", GIVEN, ids=repr)
async def test_wrong_variables_are_refused_without_being_repeated(keeper: Context, given: Any) -> None:
    await is_refused_in_silence(keeper, SET, i=given)


@pytest.mark.parametrize("given", [1234567890123, {"a": VALUE}, [VALUE], True])
async def test_so_is_a_variable_of_its_own(keeper: Context, given: Any) -> None:
    query = 'mutation ($v: String!) { setSecret(input: {name: "a", value: $v}) { secret { id } } }'
    await is_refused_in_silence(keeper, query, v=given)


@pytest.mark.parametrize(
    "literal",
    [
        '{name: "a", value: "VALUE", more: 1}',
        '{name: "a", vlue: "VALUE"}',
        '{name: "a", value: ["VALUE"]}',
        '{name: "a", value: {a: "VALUE"}}',
        '{name: "a", "VALUE"}',
        '{name: "a", value: "VALUE}',
        '{name: "a", value: VALUE}',
        '{name: "a", value: a VALUE 1}',
        '{name: "a", value: """VALUE""" "VALUE"}',
        '{name: "a", value: 1234567890123}',
        '{name: "a", value: 1234567890123 1234567890123}',
        '"VALUE"',
        '["VALUE"]',
    ],
)
async def test_so_is_what_stands_in_the_text_of_the_operation(keeper: Context, literal: str) -> None:
    given = literal.replace("VALUE", VALUE if '"VALUE' in literal else VALUE.replace("-", "_"))
    await is_refused_in_silence(keeper, f"mutation {{ setSecret(input: {given}) {{ secret {{ id }} }} }}")


async def is_refused_in_silence(context: Context, query: str, /, **variables: Any) -> None:
    with capture_logs() as logs:
        result = await schema.execute(query, variable_values=variables, context_value=context)
    assert result.errors
    told = repr([error.formatted for error in result.errors]) + repr(logs)
    assert result.errors[0].extensions == {"code": "VALIDATION"}
    for value in (VALUE, VALUE.replace("-", "_"), "1234567890123"):
        assert value not in told
    assert await names(context) == []


async def test_what_a_mistake_is_told_is_still_of_use(keeper: Context) -> None:
    result = await schema.execute(SET, {"i": {"name": "a", "vlue": VALUE, "value": 5}}, context_value=keeper)
    assert [error.message for error in result.errors or []] == [
        "Variable '$i' has invalid value at .value: String cannot represent a non string value.",
        "Variable '$i' has invalid value: Expected value of type 'SetSecretInput' not to include unknown field 'vlue'. "
        "Did you mean 'value'?",
    ]


async def test_a_project_that_is_not_the_callers_does_not_exist(keeper: Context, project: str) -> None:
    await put(keeper)
    async with keeper.database.begin() as connection:
        own = await projects.create(connection, "of the stranger")
    stranger = replace(keeper, caller=Caller("stranger", {own.id: Role.ADMIN}))
    assert (await put(stranger, projectId=project))["errors"][0]["code"] == "NOT_FOUND"
    gone = await mutate(stranger, "deleteSecret", "deletedId", name="key", projectId=project)
    assert gone["errors"][0]["code"] == "NOT_FOUND"
    assert await names(stranger) == []
    result = await schema.execute(f'{{ secrets(projectId: "{project}") {{ name }} }}', context_value=stranger)
    assert result.errors is not None and result.errors[0].extensions is not None
    assert result.errors[0].extensions["code"] == "NOT_FOUND"
    assert await names(keeper) == ["key"]


@pytest.mark.parametrize("role", list(Role))
async def test_names_are_for_all_of_the_project_and_changes_for_editors(
    keeper: Context, project: str, role: Role
) -> None:
    await put(keeper)
    guest = replace(keeper, caller=Caller("guest", {project: role}))
    assert await names(guest) == ["key"]
    codes = [error["code"] for error in (await put(guest, "other"))["errors"]]
    gone = await mutate(guest, "deleteSecret", "deletedId", name="key")
    assert codes == [error["code"] for error in gone["errors"]]
    assert codes == ([] if role.includes(Role.EDITOR) else ["FORBIDDEN"])


async def test_who_may_only_run_cannot_send_a_secret_where_they_like(keeper: Context, project: str) -> None:
    """A spec or a node of one's own could hand it to anybody; workflows that editors have saved are theirs to judge."""
    await put(keeper)
    config = {"output": "{{ secrets.key }}"}
    spec = {"nodes": [{"id": "a", "type": "transform", "config": config}]}
    for role, codes in ((Role.RUNNER, ["FORBIDDEN"]), (Role.EDITOR, [])):
        guest = replace(keeper, caller=Caller("guest", {project: role}))
        tried = await mutate(guest, "testNode", "output", type="transform", config=config)
        started = await mutate(guest, "runAdhoc", "run { id }", spec=spec)
        assert [error["code"] for error in tried["errors"]] == codes
        assert [error["code"] for error in started["errors"]] == codes
        plain = await mutate(guest, "testNode", "output", type="transform", config={"output": "{{ input }}"})
        assert plain["errors"] == []


async def test_a_server_without_a_key_says_what_to_do(keeper: Context, tmp_path: Path) -> None:
    await put(keeper)
    (tmp_path / key_file.NAME).unlink()
    [problem] = (await put(keeper, "other"))["errors"]
    assert problem["code"] == "UNAVAILABLE"
    assert str(tmp_path / key_file.NAME) in problem["detail"]
    assert "TREADLE_SECRET_KEY" in problem["detail"]
    assert "treadle doctor" in problem["detail"]
    assert await names(keeper) == ["key"]


async def test_a_key_file_that_others_can_read_is_not_used(keeper: Context, tmp_path: Path) -> None:
    (tmp_path / key_file.NAME).chmod(0o644)
    [problem] = (await put(keeper))["errors"]
    assert problem["code"] == "UNAVAILABLE"
    assert "chmod 600" in problem["detail"]


async def test_after_a_lost_key_a_secret_is_set_again_under_a_new_one(
    keeper: Context, project: str, tmp_path: Path
) -> None:
    before = await put(keeper)
    (tmp_path / key_file.NAME).write_text(Key.new().text)
    with pytest.raises(NodeFailure, match="which is not here"):
        await keeper.resources["secrets"].resolve(project, ["key"])
    after = await put(keeper)
    assert (after["secret"]["id"], after["errors"]) == (before["secret"]["id"], [])
    assert await keeper.resources["secrets"].resolve(project, ["key"]) == {"key": VALUE}
