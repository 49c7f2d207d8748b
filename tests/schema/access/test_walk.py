"""A walk through the whole schema as every caller.

It is made from the schema and the table in `calls.py`. A new field, argument or input field that no
call uses fails `test_each_role_may_do_what_the_table_says`.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLObjectType
from redis.asyncio import Redis

from app.settings import Settings
from persistence.caller import Caller, Role
from persistence.db.tables import metadata
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from resolvers import permissions
from resolvers.context import Context
from schema.schema import schema
from tests.schema.access.calls import AUDITED, FILTER, MUTATIONS, NESTED, QUERIES, SUBSCRIPTIONS, Call
from tests.schema.access.documents import GRAPH, ROOTS, Coverage, Selections, all_parts, object_type, operation
from tests.schema.access.objects import ProjectObjects, cursors, fill, store_objects, unknown_ids
from tests.schema_client import call as execute
from tests.schema_client import mutate, with_output
from tests.statement_counter import count_statements

CALLS = {"query": QUERIES, "mutation": MUTATIONS, "subscription": SUBSCRIPTIONS}
LISTS = frozenset({"runs", "draft", "triggerEvents"})
"""Subscriptions without a history."""
PUBLIC = frozenset(name for name, role in permissions.QUERIES.items() if role is None) | {"models", "workers"}
"""Queries that return nothing of a project."""
COUNTED = frozenset({"stats"})
"""Queries that return numbers, and no object of a project."""
WITHOUT_IDS = PUBLIC | COUNTED | {"diffVersions"}
"""Queries whose answers have no ids."""
OF_ADMINS = frozenset({"ApiKey", "AuditEntry"})
"""Types that lower roles cannot see."""
ID = re.compile(r"\b[a-z]+_[0-9a-z]{26}\b")
TIMES = re.compile(r'"durationMs": [\d.]+|"estimatedCompletionAt": "[^"]*"')
"""Values that depend on the present time."""
NOT_AUDITED = frozenset({"createRun", "runWorkflow", "runAdhoc", "sendEvent", "testNode", "testTrigger"})
"""Mutations without an entry in the audit log: the run or the event itself has it, or nothing is changed."""
SENT_VALUES = ("the value of", "a value of the run", "tk_", "an answer")
"""Secrets, tokens, inputs and answers in the calls of mutations begin with these."""
OF_INSTALLATION = frozenset({"createProject", "workers"})
"""Operations that need the role admin in all projects."""
HIDDEN = frozenset({"revokeApiKey"})
"""Mutations of objects that lower roles cannot see."""
PROBLEMS = ("ConflictProblem", "FieldProblem", "GeneralProblem", "InvalidStateProblem", "NotFoundProblem")
NEVER_REACHED = {
    **dict.fromkeys((*PROBLEMS, "ValidationProblem"), "a refusal"),
    **dict.fromkeys(("EdgeStateChanged", "RunProgressed"), "a later message of a subscription"),
    "HistoryExpired": "retention",
    **dict.fromkeys(("LogRecorded", "LogRecordedEdge"), "a node that logs"),
    "Model": "a catalog of models",
    "NodeOutputDelta": "a node that streams",
    "TestNodeWait": "a test of a node that waits",
    "Tool": "a catalog of tools",
    "Worker": "a worker process",
    "Usage": "a node that calls a model",
}
"""Types that are selected, but that no successful call of the walk returns, and what they would need."""


@dataclass
class Walk:
    """Two projects with the same kinds of objects: the caller of the other one attacks the first."""

    own: ProjectObjects
    other: ProjectObjects
    coverage: Coverage

    async def call(
        self,
        context: Context,
        root: str,
        call: Call,
        ids: Mapping[str, str],
        nested: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Execute a call, and return data and errors; of a subscription, those of its first result.

        `nested` are the ids in arguments of nested fields; by default `ids`.
        """
        arguments = fill(call.arguments, ids)
        field = object_type(ROOTS[root]).fields[call.name]
        self.coverage.used |= {f"{ROOTS[root]}.{call.name}"}
        for name, value in arguments.items():
            self.coverage.used.add(f"{ROOTS[root]}.{call.name}.{name}")
            self.coverage.note_input(field.args[name].type, value)
        selections = Selections(fill(NESTED, nested or ids) | {"cursors": cursors()}, self.coverage)
        text = operation(root, call.name, arguments, selections.of(field.type, on=call.on))
        if root == "subscription":
            return await _first_result(context, text, arguments)
        result = await schema.execute(text, variable_values=arguments, context_value=context)
        return {"data": result.data, "errors": result.errors or []}


async def _first_result(context: Context, text: str, arguments: dict[str, Any]) -> dict[str, Any]:
    stream: Any = await schema.subscribe(text, variable_values=arguments, context_value=context)
    async with aclosing(stream):
        result = await anext(stream)
        return {"data": result.data, "errors": result.errors or []}


def codes_of(answer: dict[str, Any]) -> set[str]:
    """Return the codes of all errors and problems of an answer."""
    codes = {error.extensions["code"] for error in answer["errors"]}
    for payload in (answer["data"] or {}).values():
        if isinstance(payload, dict) and isinstance(payload.get("errors"), list):
            codes |= {problem["code"] for problem in payload["errors"] if "code" in problem}
    return codes


def shown(answer: dict[str, Any], ids: Mapping[str, str]) -> str:
    """Return an answer as text, in which ids are replaced by their kinds."""
    text = json.dumps([answer["data"], [[error.message, error.extensions] for error in answer["errors"]]], default=str)
    for kind, id in sorted(ids.items(), key=lambda item: -len(item[1])):
        text = text.replace(id, f"{{{kind}}}")
    return text


@pytest.fixture
async def walk(context: Context, redis: Redis, tmp_path: Path) -> AsyncIterator[Walk]:
    secrets = await open_secrets(context.database, KeySource.of(Settings(data_dir=tmp_path)))
    context.resources, context.public_url = {"secrets": secrets}, "https://treadle.example.com"
    own, other = await store_objects(context, redis, ["OwnProject", "OtherProject"])
    yield Walk(own, other, Coverage())


async def all_rows(context: Context) -> dict[str, list[Any]]:
    """Return all rows of all tables."""
    names = [table.name for table in metadata.sorted_tables]
    return {name: sorted(map(str, await context.database.pool.fetch(f"SELECT * FROM {name}"))) for name in names}


def placeholders(value: Any) -> set[str]:
    """Return the kinds of objects that the arguments of a call name."""
    if isinstance(value, dict):
        return set().union(*map(placeholders, value.values()))
    if isinstance(value, list):
        return set().union(*map(placeholders, value))
    return set(re.findall(r"^\{(\w+)\}$", value)) if isinstance(value, str) else set()


def each_call() -> Iterator[tuple[str, Call]]:
    yield from ((root, call) for root, calls in CALLS.items() for call in calls)


async def test_nobody_else_reads_or_changes_a_project(walk: Walk) -> None:
    """Each id in each call belongs once to a project of others, and once to nothing: the answers are equal.

    So are the statements that are sent to the database, and thereby the time.
    """
    before = await all_rows(walk.own.admin)
    nobody = replace(walk.own.admin, caller=Caller("nobody", {}))
    async with count_statements(walk.own.admin.database) as statements:
        for root, call in each_call():
            for foreign in foreign_kinds(root, call):
                await check_refusal(walk, walk.other.admin, root, call, foreign, statements)
            await check_refusal(walk, nobody, root, call, sorted(placeholders(call.arguments)), statements)
    await check_lists(walk)
    assert await all_rows(walk.own.admin) == before


def foreign_kinds(root: str, call: Call) -> list[list[str]]:
    """Return which of the ids of a call are foreign: all of them, and each one beside own ones.

    Not so in subscriptions: one of a list that stays empty has no first result.
    """
    kinds = sorted(placeholders(call.arguments))
    single = [[kind] for kind in kinds] if len(kinds) > 1 and root != "subscription" else []
    return [kinds, *single] if kinds else []


async def check_refusal(
    walk: Walk, context: Context, root: str, call: Call, foreign: list[str], statements: list[str]
) -> None:
    """Compare the answers for foreign ids and for ids that do not exist."""
    absent = unknown_ids(walk.own.ids)

    names_it = root != "query" or ("projectId" in call.arguments and call.name != "validateSpec")
    is_all = foreign and foreign == sorted(placeholders(call.arguments))

    async def answer_and_statements(ids: Mapping[str, str]) -> tuple[str, Counter[str]]:
        mixed = {**walk.other.ids, **{kind: ids[kind] for kind in foreign}}
        statements.clear()
        answer = await walk.call(context, root, call, mixed)
        if is_all and names_it:
            assert codes_of(answer) == {"NOT_FOUND"}, (call, answer)
        return shown(answer, mixed), Counter(statements)

    expected, found = await answer_and_statements(absent), await answer_and_statements(walk.own.ids)
    if expected != found:  # The first call fills caches.
        expected = await answer_and_statements(absent)
    assert "LIMIT" not in found[0]
    which = f"{root} {call} as {context.caller.subject} with foreign {foreign}"
    assert found == expected, which
    assert walk.own.name not in found[0], which


async def check_lists(walk: Walk) -> None:
    """Read own objects with foreign ids in the arguments of nested fields, and lists without any id."""
    absent = unknown_ids(walk.own.ids)
    for call in QUERIES:
        answers = []
        for others in (absent, walk.own.ids):
            answer = await walk.call(walk.other.admin, "query", call, walk.other.ids, nested=others)
            answers.append(TIMES.sub("", shown(answer, others)))
        assert answers[1] == answers[0], call
        assert walk.own.name not in answers[1], call


async def test_each_role_may_do_what_the_table_says(walk: Walk) -> None:
    """Lower roles are refused, and change nothing. The lowest role that is allowed succeeds."""
    before = await all_rows(walk.own.admin)
    for call in MUTATIONS:
        for context in lower_roles(walk, permissions.MUTATIONS[call.name]):
            answer = await walk.call(context, "mutation", call, walk.own.ids)
            expected = "NOT_FOUND" if call.name in HIDDEN else "FORBIDDEN"
            assert codes_of(answer) == {expected}, (call, context.caller.subject)
    assert await all_rows(walk.own.admin) == before
    for call in QUERIES:
        for role in roles_to_try(call):
            await check_query(walk, call, walk.own.caller(role))
    await check_subscriptions(walk)
    for call in MUTATIONS:
        lowest = walk.own.caller(permissions.MUTATIONS[call.name])
        if call.name in OF_INSTALLATION:
            lowest.caller = replace(lowest.caller, may_create_projects=True)
        before = await audit_entries(walk)
        answer = await walk.call(lowest, "mutation", call, walk.own.ids)
        assert codes_of(answer) == set(), (call, answer)
        check_audit_log(call, lowest, before, await audit_entries(walk))
        walk.coverage.note_data(answer["data"])
    check_coverage(walk.coverage)


async def audit_entries(walk: Walk) -> list[Any]:
    """Return the audit log, oldest first."""
    return await walk.own.admin.database.pool.fetch("SELECT * FROM audit_log ORDER BY id")


def check_audit_log(call: Call, context: Context, before: list[Any], after: list[Any]) -> None:
    """Check that a successful mutation has written one entry, without any of the values that it was sent."""
    if call.name in NOT_AUDITED:
        assert after == before, call
        return
    [entry] = after[len(before) :]
    assert entry["action"] == call.name and entry["subject"] == context.caller.subject, call
    assert entry["resource_id"] is not None and (entry["before"], entry["after"]) != (None, None), call
    kept = f"{entry['before']} {entry['after']}"
    assert not any(value in kept for value in SENT_VALUES), call


def lower_roles(walk: Walk, needed: Role) -> list[Context]:
    return [walk.own.caller(role) for role in Role if not role.includes(needed)]


def roles_to_try(call: Call) -> list[Role]:
    if call.name in OF_INSTALLATION:
        return [Role.ADMIN]
    is_open = permissions.QUERIES[call.name] in (None, Role.VIEWER) and call.on not in OF_ADMINS
    return [Role.VIEWER, Role.ADMIN] if is_open else list(Role)


async def check_query(walk: Walk, call: Call, context: Context) -> None:
    needed = Role.ADMIN if call.on in OF_ADMINS else permissions.QUERIES[call.name]
    if call.name in OF_INSTALLATION:
        answer = await walk.call(context, "query", call, walk.own.ids)
        assert codes_of(answer) == {"FORBIDDEN"}, call
        context.caller = replace(context.caller, may_create_projects=True)
    answer = await walk.call(context, "query", call, walk.own.ids)
    if needed is None or context.caller.may(needed, walk.own.ids["project"]):
        assert answer["errors"] == [], call
        walk.coverage.note_data(answer["data"])
        assert (
            call.name in WITHOUT_IDS
            or call.arguments.get("filter") in (FILTER, AUDITED)
            or ID.search(shown(answer, {}))
        ), call
    elif "projectId" in call.arguments:
        assert codes_of(answer) == {"FORBIDDEN"}, call
    else:  # Without a project, lists have the objects of those that one administers.
        assert codes_of(answer) == set() and not ID.search(shown(answer, {})), call


async def check_subscriptions(walk: Walk) -> None:
    """Follow runs that have ended as a viewer, and lists while they change."""
    viewer = walk.own.caller(Role.VIEWER)
    for call in SUBSCRIPTIONS:
        following = asyncio.create_task(walk.call(viewer, "subscription", call, walk.own.ids))
        while call.name in LISTS and not following.done():
            await change_list(walk, call.name)
            await asyncio.wait({following}, timeout=0.02)
        answer = await following
        assert answer["errors"] == [], (call, answer)
        walk.coverage.note_data(answer["data"])


async def change_list(walk: Walk, name: str) -> None:
    """Change what a subscription follows."""
    admin, ids = walk.own.admin, walk.own.ids
    if name == "runs":
        await mutate(admin, "createRun", "run { id }", workflowId=ids["workflow"])
    elif name == "triggerEvents":
        await mutate(admin, "testTrigger", "wouldFire", id=ids["trigger"])
    else:
        query = "query($id: ID!) { workflow(id: $id) { draft { revision } } }"
        revision = (await execute(admin, query, id=ids["asking"]))["workflow"]["draft"]["revision"]
        spec = with_output(revision)
        await mutate(admin, "saveDraft", "draft { id }", workflowId=ids["asking"], spec=spec, expectedRevision=revision)


def check_coverage(coverage: Coverage) -> None:
    """Compare what the walk has used and reached with the schema."""
    missing = sorted(all_parts() - coverage.used)
    assert missing == [], "add a call with these to tests/schema/access/calls.py"
    types = {name for name, kind in GRAPH.type_map.items() if isinstance(kind, GraphQLObjectType) and name[:2] != "__"}
    never = types - coverage.reached - set(ROOTS.values())
    assert never == set(NEVER_REACHED), "let objects.py store one of each"
