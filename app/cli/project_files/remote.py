"""A project on a server, read and changed over the public API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.cli.client import ApiClient, RunRefused
from app.cli.operations.objects import ObjectKind, list_objects, project_id
from app.cli.project_files.portable import PortableTrigger, PortableWorkflow, with_names

ALL = 100_000
_TRIGGERS = "id name kind config inputs enabled workflow { id }"
WORKFLOWS = ObjectKind(
    "workflow",
    "workflows",
    "id name description expose { name description mcp http } draft { revision spec matchesVersion { number } } "
    "publishedVersion { number spec }",
    "",
    {},
)
TRIGGERS = ObjectKind("trigger", "triggers", _TRIGGERS, "", {})
_DEFAULT = "{ viewer { projects { id name } } }"
_PROBLEMS = "errors { title detail ... on ValidationProblem { errors { field message } } }"


@dataclass(frozen=True, slots=True)
class RemoteWorkflow:
    """A workflow on a server: the draft, and what is published, both with names instead of ids."""

    id: str
    revision: int
    draft: PortableWorkflow
    published: PortableWorkflow | None
    is_edited: bool
    """Whether no version has the content of the draft."""
    trigger_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RemoteProject:
    """A project on a server: its workflows by name, and the names of its secrets."""

    client: ApiClient
    id: str
    name: str
    workflows: dict[str, RemoteWorkflow]
    secrets: list[str]


async def read_project(client: ApiClient, project: str | None) -> RemoteProject:
    """Read a whole project. Raises RunRefused."""
    id, name = await _project(client, project)
    rows = await list_objects(client, WORKFLOWS, limit=ALL, project=id)
    triggers = await list_objects(client, TRIGGERS, limit=ALL, project=id)
    secrets = await client.execute("query ($id: ID) { secrets(projectId: $id) { name } }", id=id)
    names = {row["id"]: row["name"] for row in rows}
    if twice := sorted({one for one in names.values() if list(names.values()).count(one) > 1}):
        raise RunRefused(
            f"several workflows of the project are named {twice[0]!r}: rename them, files need unique names"
        )
    found = {row["name"]: _workflow(row, [one for one in triggers if one["workflow"]["id"] == row["id"]], names)
             for row in rows}  # fmt: skip
    return RemoteProject(client, id, name, found, [row["name"] for row in secrets["secrets"]])


async def _project(client: ApiClient, project: str | None) -> tuple[str, str]:
    projects = (await client.execute(_DEFAULT))["viewer"]["projects"]
    if project is not None:
        wanted = await project_id(client, project)
        return wanted, next(one["name"] for one in projects if one["id"] == wanted)
    if len(projects) == 1:
        return projects[0]["id"], projects[0]["name"]
    default = [one for one in projects if one["name"] == "default"]
    if not default:
        raise RunRefused("you have several projects: choose one with --project")
    return default[0]["id"], default[0]["name"]


def _workflow(row: dict[str, Any], triggers: list[dict[str, Any]], names: Mapping[str, str]) -> RemoteWorkflow:
    twice = {one["name"] for one in triggers if [other["name"] for other in triggers].count(one["name"]) > 1}
    if twice:
        raise RunRefused(f"several triggers of {row['name']!r} are named {min(twice)!r}: rename them")
    portable = tuple(
        PortableTrigger(one["name"], one["kind"], with_names(one["config"], names), one["inputs"], one["enabled"])
        for one in triggers
    )

    def content(spec: Any, *, published: bool) -> PortableWorkflow:
        own = with_names(spec, names)
        return PortableWorkflow(row["name"], row["description"], own, published, portable, row["expose"])

    version = row["publishedVersion"]
    return RemoteWorkflow(
        row["id"],
        row["draft"]["revision"],
        content(row["draft"]["spec"], published=False),
        None if version is None else content(version["spec"], published=True),
        row["draft"]["matchesVersion"] is None and not _is_new(row["draft"]),
        {one["name"]: one["id"] for one in triggers},
    )


def _is_new(draft: dict[str, Any]) -> bool:
    """Whether a draft is as `createWorkflow` makes it, as after an import that stopped there."""
    kinds = [node.get("type") for node in draft["spec"].get("nodes", [])]
    return draft["revision"] == 1 and kinds == ["start", "end"]


async def change(client: ApiClient, mutation: str, answer: str, **input: Any) -> dict[str, Any]:
    """Execute a mutation, and return its payload. Raises RunRefused with its problems."""
    kind = mutation[0].upper() + mutation[1:] + "Input"
    query = f"mutation ($input: {kind}!) {{ payload: {mutation}(input: $input) {{ {answer} {_PROBLEMS} }} }}"
    payload: dict[str, Any] = (await client.execute(query, input=input))["payload"]
    for problem in payload["errors"]:
        fields = "; ".join(f"{one['field']}: {one['message']}" for one in problem.get("errors") or [])
        raise RunRefused(f"{problem['title']}: {fields or problem['detail']}")
    return payload
