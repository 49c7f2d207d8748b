"""Secrets as clients see them: set, listed and deleted.

No response and no log line holds a value.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.errors import NodeFailure
from persistence.caller import Caller, Role
from persistence.secrets import key_file
from persistence.secrets.key_source import KeySource
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
async def keyed(context: Context, tmp_path: Path) -> AsyncIterator[Context]:
    """A context whose server has keys."""
    context.resources = {"secrets": await open_secrets(context.database, KeySource(None, tmp_path / key_file.NAME))}
    yield context


async def put(context: Context, name: str = "key", value: str = VALUE, **more: Any) -> dict[str, Any]:
    return await mutate(context, "setSecret", f"secret {{ {FIELDS} }}", name=name, value=value, **more)


async def names(context: Context, **variables: Any) -> list[str]:
    data = await call(context, "query ($p: ID) { secrets(projectId: $p) { name } }", **variables)
    return [secret["name"] for secret in data["secrets"]]


async def test_a_secret_is_set_listed_replaced_and_deleted(keyed: Context, project: str) -> None:
    first = await put(keyed)
    assert first["errors"] == []
    fields = {"name": "key", "updatedBy": "tester", "lastUsedAt": None, "project": {"name": "default"}}
    assert fields.items() <= first["secret"].items()
    second = await put(keyed, value="another value")
    assert second["secret"]["id"] == first["secret"]["id"]
    assert second["secret"]["updatedAt"] > first["secret"]["updatedAt"]
    await put(keyed, "another", projectId=project)
    assert await names(keyed) == await names(keyed, p=project) == ["another", "key"]
    values = await keyed.resources["secrets"].resolve(project, ["key"])
    assert values == {"key": "another value"}
    deleted = await mutate(keyed, "deleteSecret", "deletedId", name="key")
    assert (deleted["deletedId"], deleted["errors"]) == (first["secret"]["id"], [])
    assert await names(keyed) == ["another"]


async def test_deleting_an_unknown_secret_answers_not_found(keyed: Context) -> None:
    deleted = await mutate(keyed, "deleteSecret", "deletedId", name="key")
    assert (deleted["deletedId"], deleted["errors"][0]["code"], deleted["errors"][0]["resourceId"]) == (
        None,
        "NOT_FOUND",
        "key",
    )


async def test_no_type_has_a_field_for_the_value(keyed: Context) -> None:
    data = await call(keyed, '{ __type(name: "Secret") { fields { name } } }')
    assert {field["name"] for field in data["__type"]["fields"]} == {
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
        ("key", "aAaA" * 100, {"input.value": "TOO_UNIFORM"}),
        ("key", "x" * (MAX_VALUE_BYTES + 1), {"input.value": "TOO_LARGE"}),
        ("key", "é" * (MAX_VALUE_BYTES // 2 + 1), {"input.value": "TOO_LARGE"}),
        ("", "", {"input.name": "LENGTH", "input.value": "EMPTY"}),
    ],
)
async def test_invalid_input_is_reported_by_field_and_not_quoted(
    keyed: Context, name: str, value: str, expected: dict[str, str]
) -> None:
    payload = await put(keyed, name, value)
    [problem] = payload["errors"]
    assert {error["field"]: error["code"] for error in problem["errors"]} == expected
    assert VALUE not in repr(payload)
    assert await names(keyed) == []


@pytest.mark.parametrize("name", ["_", "A1", "if", "items", "x" * 100])
async def test_a_name_that_templates_can_use_is_accepted(keyed: Context, name: str) -> None:
    assert (await put(keyed, name))["errors"] == []
    arguments = {"is_right": f"{{{{ secrets.{name} == '{VALUE}' }}}}", "value": f"{{{{ secrets.{name} }}}}"}
    config = {"tool": "json_query", "arguments": arguments}
    tested = await mutate(keyed, "testNode", "input errors { detail }", type="tool", config=config)
    assert tested == {"input": {"is_right": True, "value": "•••"}, "errors": []}


async def test_the_largest_and_the_smallest_value_are_accepted(keyed: Context, project: str) -> None:
    for value in ("0123456789abcdef" * (MAX_VALUE_BYTES // 16), "12345678", "zeile 1\nzeile 2 🔑\n"):
        assert (await put(keyed, value=value))["errors"] == []
        assert await keyed.resources["secrets"].resolve(project, ["key"]) == {"key": value}


INVALID_INPUTS: list[Any] = [
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


@pytest.mark.parametrize("input", INVALID_INPUTS, ids=repr)
async def test_an_invalid_variable_is_refused_and_not_quoted(keyed: Context, input: Any) -> None:
    await assert_refused_unquoted(keyed, SET, i=input)


@pytest.mark.parametrize("value", [1234567890123, {"a": VALUE}, [VALUE], True])
async def test_an_invalid_variable_for_the_value_only_is_refused_and_not_quoted(keyed: Context, value: Any) -> None:
    query = 'mutation ($v: String!) { setSecret(input: {name: "a", value: $v}) { secret { id } } }'
    await assert_refused_unquoted(keyed, query, v=value)


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
async def test_an_invalid_literal_in_the_text_is_refused_and_not_quoted(keyed: Context, literal: str) -> None:
    input = literal.replace("VALUE", VALUE if '"VALUE' in literal else VALUE.replace("-", "_"))
    await assert_refused_unquoted(keyed, f"mutation {{ setSecret(input: {input}) {{ secret {{ id }} }} }}")


async def assert_refused_unquoted(context: Context, query: str, /, **variables: Any) -> None:
    with capture_logs() as logs:
        result = await schema.execute(query, variable_values=variables, context_value=context)
    assert result.errors
    output = repr([error.formatted for error in result.errors]) + repr(logs)
    assert result.errors[0].extensions == {"code": "VALIDATION"}
    for value in (VALUE, VALUE.replace("-", "_"), "1234567890123"):
        assert value not in output
    assert await names(context) == []


async def test_a_message_without_the_input_still_names_the_mistake(keyed: Context) -> None:
    result = await schema.execute(SET, {"i": {"name": "a", "vlue": VALUE, "value": 5}}, context_value=keyed)
    assert [error.message for error in result.errors or []] == [
        "Variable '$i' has invalid value at .value: String cannot represent a non string value.",
        "Variable '$i' has invalid value: Expected value of type 'SetSecretInput' not to include unknown field 'vlue'. "
        "Did you mean 'value'?",
    ]


async def test_a_project_of_another_user_does_not_exist_for_the_caller(keyed: Context, project: str) -> None:
    await put(keyed)
    async with keyed.database.begin() as connection:
        own = await projects.create(connection, "of another user")
    other_user = replace(keyed, caller=Caller("other_user", {own.id: Role.ADMIN}))
    assert (await put(other_user, projectId=project))["errors"][0]["code"] == "NOT_FOUND"
    deleted = await mutate(other_user, "deleteSecret", "deletedId", name="key", projectId=project)
    assert deleted["errors"][0]["code"] == "NOT_FOUND"
    assert await names(other_user) == []
    result = await schema.execute(f'{{ secrets(projectId: "{project}") {{ name }} }}', context_value=other_user)
    assert result.errors is not None and result.errors[0].extensions is not None
    assert result.errors[0].extensions["code"] == "NOT_FOUND"
    assert await names(keyed) == ["key"]


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_lists_names_and_only_editors_change_secrets(keyed: Context, project: str, role: Role) -> None:
    await put(keyed)
    guest = replace(keyed, caller=Caller("guest", {project: role}))
    assert await names(guest) == ["key"]
    codes = [error["code"] for error in (await put(guest, "other"))["errors"]]
    deleted = await mutate(guest, "deleteSecret", "deletedId", name="key")
    assert codes == [error["code"] for error in deleted["errors"]]
    assert codes == ([] if role.includes(Role.EDITOR) else ["FORBIDDEN"])


async def test_a_runner_cannot_use_secrets_in_an_unsaved_spec_or_node(keyed: Context, project: str) -> None:
    """An unsaved spec could send a value anywhere.

    A saved workflow has been written by an editor.
    """
    await put(keyed)
    config = {"tool": "json_query", "arguments": {"data": "{{ secrets.key }}"}}
    spec = {"nodes": [{"id": "a", "type": "tool", "config": config}]}
    for role, codes in ((Role.RUNNER, ["FORBIDDEN"]), (Role.EDITOR, [])):
        guest = replace(keyed, caller=Caller("guest", {project: role}))
        tested = await mutate(guest, "testNode", "output", type="tool", config=config)
        started = await mutate(guest, "runAdhoc", "run { id }", spec=spec)
        assert [error["code"] for error in tested["errors"]] == codes
        assert [error["code"] for error in started["errors"]] == codes
        plain = await mutate(guest, "testNode", "output", type="transform", config={"output": "{{ input }}"})
        assert plain["errors"] == []


async def test_a_server_without_a_key_explains_how_to_fix_it(keyed: Context, tmp_path: Path) -> None:
    await put(keyed)
    (tmp_path / key_file.NAME).unlink()
    [problem] = (await put(keyed, "other"))["errors"]
    assert problem["code"] == "UNAVAILABLE"
    assert str(tmp_path / key_file.NAME) in problem["detail"]
    assert "TREADLE_SECRET_KEY" in problem["detail"]
    assert "treadle doctor" in problem["detail"]
    assert await names(keyed) == ["key"]


async def test_a_key_file_that_others_can_read_is_not_used(keyed: Context, tmp_path: Path) -> None:
    (tmp_path / key_file.NAME).chmod(0o644)
    [problem] = (await put(keyed))["errors"]
    assert problem["code"] == "UNAVAILABLE"
    assert "chmod 600" in problem["detail"]


async def test_a_secret_whose_key_is_lost_can_be_set_again_under_a_new_key(
    keyed: Context, project: str, tmp_path: Path
) -> None:
    before = await put(keyed)
    (tmp_path / key_file.NAME).write_text(Key.new().text)
    with pytest.raises(NodeFailure, match="which this host does not have"):
        await keyed.resources["secrets"].resolve(project, ["key"])
    after = await put(keyed)
    assert (after["secret"]["id"], after["errors"]) == (before["secret"]["id"], [])
    assert await keyed.resources["secrets"].resolve(project, ["key"]) == {"key": VALUE}
