"""Every connection of the schema pages in both directions, after the Relay specification.

The table of connections is made from the schema, so a new connection fails here until it has rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from graphql import GraphQLObjectType, get_named_type

from engine.events import LogRecorded
from engine.states import LogLevel
from persistence.caller import Role
from persistence.db.ids import new_id
from persistence.workflows import projects
from resolvers.context import Context
from resolvers.loaders import Loaders
from schema.schema import schema
from tests.journal_worker import JournalWorker
from tests.schema_client import call, mutate, new_workflow, with_output

GRAPH = schema._schema
COUNT = 5
Connection = tuple[str, str]
"""The names of a type and of its field."""
CONNECTIONS: list[Connection] = [
    (kind.name, name)
    for kind in GRAPH.type_map.values()
    if isinstance(kind, GraphQLObjectType)
    for name, field in kind.fields.items()
    if get_named_type(field.type).name.endswith("Connection")
]
PAGE = "edges { cursor node { __typename } } nodes { __typename } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
SHORT = "edges { cursor } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
FORGED = ("", "nonsense", "%%%", "d2ZfLTE", "cnVuXzAxLzE", "bnVsbA", "ÿ", "x" * 5000)


@dataclass(frozen=True)
class Rows:
    """The ids of objects whose connections have at least COUNT objects, by type."""

    ids: dict[str, str]

    def operation(self, connection: Connection, fields: Sequence[str]) -> tuple[str, dict[str, str]]:
        """Return a query of aliases of one connection, and its variables."""
        kind, name = connection
        selections = " ".join(f"_{place}: {name}{arguments}" for place, arguments in enumerate(fields))
        if kind == "Query":
            return f"{{ {selections} }}", {}
        return f"query($id: ID!) {{ node(id: $id) {{ ... on {kind} {{ {selections} }} }} }}", {"id": self.ids[kind]}


@pytest.fixture
async def rows(context: Context, worker: JournalWorker, project: str) -> Rows:
    """Create the objects of all connections."""
    pool = context.database.pool
    created_ids = [await new_workflow(context, name=f"w{number}") for number in range(COUNT)]
    workflow_id = created_ids[0]
    for revision in range(1, COUNT + 1):
        draft = {"workflowId": workflow_id, "spec": with_output(revision), "expectedRevision": revision}
        await mutate(context, "saveDraft", "draft { id }", **draft)
        version = await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=True)
        trigger = {"workflowId": workflow_id, "kind": "webhook", "name": "Hook", "config": {}}
        hook = await mutate(context, "createTrigger", "trigger { id }", **trigger)
    async with context.database.begin() as connection:
        created = [await projects.create(connection, f"p{number}") for number in range(COUNT)]
    context.caller.roles.update({one.id: Role.ADMIN for one in created})
    context.loaders = Loaders(context.database, context.caller)
    started = [
        (await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id, inputs={}))["run"]["id"]
        for _ in range(COUNT + 1)
    ]
    run_id, checkpoint_id = started[0], new_id("ckp")
    run = await context.loaders.run.load(run_id)
    assert run is not None
    held = await worker.claim(run)
    for step in range(COUNT):
        id = checkpoint_id if step == 0 else new_id("ckp")
        await held.checkpoint(id, step=step, next_nodes=["end"])
        await held.record(LogRecorded(LogLevel.INFO, f"line {step}", None, {}))
    await pool.execute(
        "UPDATE runs SET retry_of_id = $1, forked_from_id = $2 WHERE id = ANY($3)", run_id, checkpoint_id, started[1:]
    )
    for number in range(COUNT):
        await mutate(context, "sendEvent", "signal { id }", runId=run_id, name=f"e{number}", payload=number)
    hook_id = hook["trigger"]["id"]
    await pool.executemany(
        "INSERT INTO trigger_events (id, project_id, trigger_id, dedupe_key, payload, status)"
        " VALUES ($1, $2, $3, $1, '{}', 'TEST')",
        [(new_id("tev"), project, hook_id) for _ in range(COUNT)],
    )
    await pool.executemany(
        "INSERT INTO webhook_deliveries (id, project_id, trigger_id, method, headers, query, body, verdict, is_test)"
        " VALUES ($1, $2, $3, 'POST', '{}', '{}', '', 'UNSIGNED', false)",
        [(new_id("whd"), project, hook_id) for _ in range(COUNT)],
    )
    endpoint_ids = [new_id("ep") for _ in range(COUNT)]
    await pool.executemany(
        "INSERT INTO endpoints (id, project_id, url, description, events, workflow_ids, tags, secret, enabled, created_by)"
        " VALUES ($1, $2, 'https://example.org', '', '{RUN_FAILED}', '{}', '{}', 'KEY', false, 'tester')",
        [(id, project) for id in endpoint_ids],
    )
    await pool.executemany(
        "INSERT INTO deliveries (id, project_id, endpoint_id, event, subject_id, payload)"
        " VALUES ($1, $2, $3, 'RUN_FAILED', $4, '{}')",
        [(new_id("dlv"), project, endpoint_ids[0], run_id) for _ in range(COUNT)],
    )
    await pool.executemany(
        "INSERT INTO threads (id, project_id, key, last_number) VALUES ($1, $2, $1, 0)",
        [(new_id("thr"), project) for _ in range(COUNT)],
    )
    return Rows(
        {
            "Endpoint": endpoint_ids[0],
            "Workflow": workflow_id,
            "WorkflowVersion": version["version"]["id"],
            "Run": run_id,
            "Checkpoint": checkpoint_id,
            "Trigger": hook_id,
        }
    )


async def pages(
    context: Context, rows: Rows, connection: Connection, arguments: Sequence[str], fields: str = PAGE
) -> list[dict[str, Any]]:
    """Read one connection with each of these arguments."""
    query, variables = rows.operation(connection, [f"{one} {{ {fields} }}" for one in arguments])
    data = await call(context, query, **variables)
    parent = data if connection[0] == "Query" else data["node"]
    return [parent[f"_{place}"] for place in range(len(arguments))]


def cursors(page: dict[str, Any]) -> list[str]:
    if "nodes" in page:
        assert [edge["node"] for edge in page["edges"]] == page["nodes"]
    found = [edge["cursor"] for edge in page["edges"]]
    info = page["pageInfo"]
    assert [info["startCursor"], info["endCursor"]] == ([found[0], found[-1]] if found else [None, None])
    return found


def cut(every: list[str], after: int | None, before: int | None, name: str, size: int) -> tuple[list[str], bool, bool]:
    """Return a page as the Relay specification computes it (sections 4.2 and 4.4), with its hasNextPage and hasPreviousPage."""
    between = every[0 if after is None else after + 1 : before]
    if name == "first":
        return between[:size], len(between) > size, after is not None
    return between[-size:], before is not None, len(between) > size


async def test_every_connection_pages_from_both_ends_and_between_cursors(context: Context, rows: Rows) -> None:
    for connection in CONNECTIONS:
        [whole] = await pages(context, rows, connection, ["(first: 100)"])
        every = cursors(whole)
        assert COUNT <= len(every) == len(set(every)), connection
        cuts = list(product((None, 0), (None, len(every) - 1), ("first", "last"), (2, 100)))
        arguments = [
            f"({name}: {size}"
            + ("" if after is None else f', after: "{every[after]}"')
            + ("" if before is None else f', before: "{every[before]}"')
            + ")"
            for after, before, name, size in cuts
        ]
        found = await pages(context, rows, connection, arguments, SHORT)
        for (after, before, name, size), page in zip(cuts, found, strict=True):
            info = page["pageInfo"]
            expected = cut(every, after, before, name, size)
            actual = cursors(page), info["hasNextPage"], info["hasPreviousPage"]
            assert actual == expected, (connection, after, before, name, size)


@pytest.mark.parametrize(("size", "cursor"), [("first", "after"), ("last", "before")])
async def test_the_pages_of_every_connection_join_in_each_direction(
    context: Context, rows: Rows, size: str, cursor: str
) -> None:
    for connection in CONNECTIONS:
        every = cursors((await pages(context, rows, connection, ["(first: 100)"]))[0])
        seen: list[str] = []
        position, goes_on = "", True
        while goes_on:
            [page] = await pages(context, rows, connection, [f"({size}: 3{position})"], SHORT)
            found, info = cursors(page), page["pageInfo"]
            seen = seen + found if size == "first" else found + seen
            goes_on = info["hasNextPage" if size == "first" else "hasPreviousPage"]
            position = f', {cursor}: "{info["endCursor" if size == "first" else "startCursor"]}"'
        assert seen == every, connection


async def test_every_connection_refuses_wrong_sizes_and_forged_cursors(context: Context, rows: Rows) -> None:
    for connection in CONNECTIONS:
        other = ("Query", "projects" if connection != ("Query", "projects") else "workflows")
        stranger = cursors((await pages(context, rows, other, ["(first: 1)"]))[0])[0]
        is_first = connection in (CONNECTIONS[0], ("Run", "eventsConnection"))
        cases = [("last", "(first: 1, last: 1)")]
        cases += [
            (name, f"({name}: {size})")
            for name in ("first", "last")
            for size in (0, -1, 101, 10**9)[: None if is_first else 1]
        ]
        cases += [
            (name, f'({name}: "{cursor}")')
            for name in ("after", "before")
            for cursor in ((*FORGED, stranger) if is_first else (FORGED[1], stranger))
        ]
        for argument, text in cases:
            query, variables = rows.operation(connection, [f"{text} {{ nodes {{ __typename }} }}"])
            result = await schema.execute(query, variable_values=variables, context_value=context)
            [error] = result.errors or [None]
            assert error is not None and (error.extensions or {})["code"] == "VALIDATION", (connection, text)
            assert [one["field"] for one in (error.extensions or {})["errors"]] == [argument], (connection, text)


async def test_a_cursor_stays_a_position_when_its_object_is_deleted_and_others_are_added(
    context: Context, rows: Rows, worker: JournalWorker
) -> None:
    connection = ("Query", "workflows")
    every = cursors((await pages(context, rows, connection, ["(first: 100)"]))[0])
    stale = every[2]
    ids = (await call(context, "{ workflows(first: 3) { nodes { id } } }"))["workflows"]["nodes"]
    assert (await mutate(context, "deleteWorkflow", "deletedId", id=ids[2]["id"]))["errors"] == []
    await new_workflow(context, name="new")
    behind, before = await pages(
        context, rows, connection, [f'(first: 100, after: "{stale}")', f'(last: 2, before: "{stale}")']
    )
    assert cursors(behind) == every[3:] and cursors(before) == every[:2]


async def test_cursors_of_events_are_of_their_run_and_end_with_its_history(context: Context, rows: Rows) -> None:
    query = "{ runs(first: 1) { nodes { id eventsConnection(last: 1) { edges { cursor } } } } }"
    newest = (await call(context, query))["runs"]["nodes"][0]
    cursor = newest["eventsConnection"]["edges"][0]["cursor"]
    of_other = "query($id: ID!, $after: String) { run(id: $id) { eventsConnection(after: $after) { nodes { seq } } } }"
    variables = {"id": rows.ids["Run"], "after": cursor}
    refused = await schema.execute(of_other, variable_values=variables, context_value=context)
    assert refused.errors is not None and "not a cursor of this list" in str(refused.errors[0].extensions)
    filtered = """query($id: ID!) { run(id: $id) { eventsConnection(types: [LOG], last: 2) { nodes { __typename seq } }
      logsConnection(last: 2, minLevel: INFO) { nodes { seq } } none: logsConnection(minLevel: ERROR) { nodes { seq } } } }"""
    found = (await call(context, filtered, id=rows.ids["Run"]))["run"]
    assert [one["__typename"] for one in found["eventsConnection"]["nodes"]] == ["LogRecorded"] * 2
    assert [one["seq"] for one in found["eventsConnection"]["nodes"]] == [
        one["seq"] for one in found["logsConnection"]["nodes"]
    ]
    assert found["none"]["nodes"] == []
    await context.database.pool.execute("UPDATE runs SET pruned_at = now() WHERE id = $1", rows.ids["Run"])
    expired = """query($id: ID!, $after: String) { run(id: $id) {
      eventsConnection(after: $after) { edges { cursor node { __typename } } } } }"""
    first = (await call(context, expired, id=rows.ids["Run"]))["run"]["eventsConnection"]["edges"]
    assert [edge["node"]["__typename"] for edge in first] == ["HistoryExpired"]
    rest = await call(context, expired, id=rows.ids["Run"], after=first[0]["cursor"])
    assert rest["run"]["eventsConnection"]["edges"] == []
