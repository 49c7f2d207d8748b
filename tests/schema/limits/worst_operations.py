"""Generates the worst operations that the limits allow, from the schema, and stores data for them.

For each list that can be reached from a query by fields without further required arguments there is
one operation. It selects every scalar field at its end, and its pages are as long as admission
allows.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_required_argument,
)

from engine.events import NodeChange, NodeState
from engine.spec.identity import hash_of_normal
from engine.states import NodeStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.ids import new_id
from persistence.runs import create
from persistence.runs.create import NewRun
from persistence.workflows import versions
from persistence.workflows.drafts import Content
from schema.limits.admission import OperationRefused, admit
from schema.schema import schema
from tests.journal_worker import JournalWorker

NODES, RUNS = 1000, 20
SPEC: dict[str, Any] = {
    "nodes": [{"id": f"n{i}", "type": "transform", "config": {"output": i}} for i in range(NODES)],
    "edges": [{"id": f"e{i}", "source": f"n{i}", "target": f"n{i + 1}"} for i in range(NODES - 1)],
}
GRAPH = schema._schema
VARIABLES = {"ids": "[ID!]!", "id": "ID!", "first": "Int", "many": "Int"}
DEPTH = 4
"""Lists inside lists, and objects between them."""
COPIED = ("node_states", "node_outputs", "events")


async def store_runs(database: Database, worker: JournalWorker, caller: Caller, project: str) -> list[str]:
    """Store RUNS runs of one version with NODES nodes, all of which have ended with an output."""
    run_ids = []
    async with database.begin() as connection:
        version = await versions.ensure_adhoc(connection, caller, project, Content(SPEC, hash_of_normal(SPEC)))
        for _ in range(RUNS):
            accepted = await create.accept(connection, caller, NewRun(project, None, version.id, {"n": 1}, start=True))
            run_ids.append(accepted.run.id)
            run = accepted.run
    held = await worker.claim(run)
    await held.checkpoint(new_id("ckp"), step=0, next_nodes=["n0"])
    await held.record(
        *(
            NodeChange(
                NodeState(run.id, f"n{i}", NodeStatus.COMPLETED, visits=1, input={"i": i}, output={"o": [i] * 9})
            )
            for i in range(NODES)
        )
    )
    for table in COPIED:
        await _copy(database, table, run.id, [id for id in run_ids if id != run.id])
    await database.pool.execute("UPDATE runs SET last_seq = $1", NODES + 3)
    return run_ids


async def _copy(database: Database, table: str, source: str, targets: list[str]) -> None:
    names = [
        row["column_name"]
        for row in await database.pool.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND column_name != 'run_id'",
            table,
        )
    ]
    columns = ", ".join(names)
    await database.pool.execute(
        f"INSERT INTO {table} (run_id, {columns}) SELECT t, {', '.join(f's.{name}' for name in names)} "
        f"FROM {table} s, unnest($2::text[]) t WHERE s.run_id = $1 ON CONFLICT DO NOTHING",
        source,
        targets,
    )


def operations(run_ids: list[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return (query, variables) by the path of fields that the operation selects."""
    known = {"ids": (run_ids * 100)[:100], "id": run_ids[0]}
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    assert GRAPH.query_type is not None
    for path in _paths(GRAPH.query_type, (), set()):
        name = ".".join(part[0] for part in path)
        if (operation := _longest(path, known)) is not None:
            found[name] = operation
    return found


Step = tuple[str, GraphQLField, str | None]
"""A field, its definition, and the type condition under which it is selected."""


def _paths(parent: GraphQLObjectType | GraphQLInterfaceType, path: tuple[Step, ...], seen: set[str]) -> Iterator[Any]:
    """Yield each path to a list of objects. No type occurs twice in a path."""
    for name, field in parent.fields.items():
        kind = get_named_type(field.type)
        if not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) or kind.name in seen:
            continue
        if any(is_required_argument(argument) and key not in ("id", "ids") for key, argument in field.args.items()):
            continue
        step = (*path, (name, field, None))
        if is_list_type(get_nullable_type(field.type)):
            yield step
        if len(step) > DEPTH + 2:
            continue
        if kind.name == "Node":
            run = GRAPH.type_map["Run"]
            assert isinstance(run, GraphQLObjectType)
            yield from _paths(run, (*path, (name, field, "Run")), {*seen, "Run"})
        else:
            yield from _paths(kind, step, {*seen, kind.name})


def _longest(path: tuple[Step, ...], known: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the operation of a path with the longest pages that admission allows, or None."""
    query = _query(path)
    for first in (100, 50, 25, 10, 5, 2, 1):
        variables = {**known, "first": first, "many": first * 10}
        try:
            admit(GRAPH, query, None, variables)
        except OperationRefused as refused:
            if refused.errors[0].extensions and refused.errors[0].extensions["code"] == "LIMIT":
                continue
            raise AssertionError(query) from refused
        return query, variables
    return None


def _query(path: tuple[Step, ...]) -> str:
    name, field, _ = path[-1]
    text = _leaves(get_named_type(field.type))
    for name, field, condition in reversed(path):
        inner = f"{{ ... on {condition} {{ {text} }} }}" if condition else f"{{ {text} }}"
        text = f"{name}{_arguments(field)} {inner}"
    used = [(name, kind) for name, kind in VARIABLES.items() if re.search(rf"\${name}\b", text)]
    head = f"({', '.join(f'${name}: {kind}' for name, kind in used)})" if used else ""
    return f"query{head} {{ {text} }}"


def _arguments(field: GraphQLField) -> str:
    values = []
    for name, argument in field.args.items():
        if name in ("id", "ids"):
            values.append(f"{name}: ${name}")
        elif name == "first":
            is_cursor = str(get_named_type(field.args["after"].type)) == "String" if "after" in field.args else False
            values.append("first: $first" if is_cursor else "first: $many")
        assert argument is not None
    return f"({', '.join(values)})" if values else ""


def _leaves(kind: Any) -> str:
    """Select every field of a type that needs no argument: scalars, and the scalars of objects."""
    names = ["__typename"]
    for name, field in getattr(kind, "fields", {}).items():
        if is_leaf_type(get_named_type(field.type)) and not any(map(is_required_argument, field.args.values())):
            names.append(name)
    return " ".join(names)


def rss_mb() -> float:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096 / 1024**2


def size_mb(value: Any) -> float:
    return len(orjson.dumps(value)) / 1024**2
