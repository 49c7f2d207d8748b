"""What `treadle runs|workflows|triggers|workers|queue` read from the API and show."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from app.cli.client import ApiClient, RunRefused
from app.cli.operations.output import Columns, age
from engine.states import TERMINAL

PAGE = 100
"""Objects of one request."""


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """A kind of objects: how to list them, and how to show one."""

    name: str
    plural: str
    listed: str
    """The fields of an object in a list."""
    shown: str
    """The fields of one object."""
    columns: Columns
    filter: str = ""
    """The type of the argument `filter` of the list."""


def _version(version: dict[str, Any] | None) -> str:
    return "" if version is None else f"v{version['number']}"


def _name(key: str) -> Callable[[Any], object]:
    return lambda row: (row[key] or {}).get("name")


RUN_FIELDS = "id status statusMessage createdAt startedAt finishedAt durationMs source createdBy attempt"
RUNS = ObjectKind(
    "run",
    "runs",
    f"{RUN_FIELDS} workflow {{ id name }} project {{ id name }} error {{ nodeId code message }}",
    f"""{RUN_FIELDS} queuedAt deadlineAt project {{ name }} workflow {{ id name }} version {{ number specHash }}
    inputs output error {{ nodeId code message }} queueReason {{ code message runsBefore }} availableActions
    waits {{ __typename nodeId since ... on TimerWait {{ until }} ... on InputWait {{ waitId prompt expiresAt }} }}
    nodeStates {{ nodeId status visits durationMs message error {{ code message }} }}""",
    {
        "id": itemgetter("id"),
        "status": itemgetter("status"),
        "age": lambda row: age(row["createdAt"]),
        "ms": lambda row: None if row["durationMs"] is None else f"{row['durationMs']:.0f}",
        "source": itemgetter("source"),
        "workflow": _name("workflow"),
        "project": _name("project"),
        "error": lambda row: (row["error"] or {}).get("code"),
    },
    "RunFilter",
)
WORKFLOWS = ObjectKind(
    "workflow",
    "workflows",
    "id name updatedAt project { id name } draft { revision specHash matchesVersion { number } } "
    "publishedVersion { number specHash }",
    """id name description createdAt updatedAt project { name } publishedVersion { id number specHash publishedAt }
    draft { revision specHash updatedAt updatedBy problems { field code message severity } matchesVersion { number } }
    triggers(first: 100) { nodes { id name kind enabled nextFireAt lastError } }
    runs(first: 5) { nodes { id status createdAt } }""",
    {
        "id": itemgetter("id"),
        "name": itemgetter("name"),
        "project": _name("project"),
        "published": lambda row: _version(row["publishedVersion"]),
        "draft": lambda row: (
            _version(row["draft"]["matchesVersion"]) or f"changed (revision {row['draft']['revision']})"
        ),
        "changed": lambda row: age(row["updatedAt"]),
    },
)
TRIGGERS = ObjectKind(
    "trigger",
    "triggers",
    "id name kind enabled nextFireAt lastFiredAt failures lastError workflow { id name } project { id name }",
    """id name kind enabled config inputs createdBy nextFireAt lastFiredAt failures lastError nextTimes(first: 5)
    project { name } workflow { id name } events(first: 10) { nodes { id status at error run { id status } } }""",
    {
        "id": itemgetter("id"),
        "name": itemgetter("name"),
        "kind": itemgetter("kind"),
        "enabled": itemgetter("enabled"),
        "workflow": _name("workflow"),
        "next": itemgetter("nextFireAt"),
        "fired": lambda row: age(row["lastFiredAt"]),
        "failures": lambda row: row["failures"] or None,
        "error": itemgetter("lastError"),
    },
)
ENDPOINTS = ObjectKind(
    "endpoint",
    "endpoints",
    "id url description events enabled failingSince lastDeliveredAt lastError project { id name }",
    """id url description events tags secret enabled failingSince lastDeliveredAt lastError project { name }
    workflows { id name }
    deliveries(first: 10) { nodes { id event status attempts responseStatus error nextAttemptAt createdAt subjectId } }""",
    {
        "id": itemgetter("id"),
        "url": itemgetter("url"),
        "events": lambda row: ", ".join(row["events"]),
        "enabled": itemgetter("enabled"),
        "delivered": lambda row: age(row["lastDeliveredAt"]),
        "failing": lambda row: age(row["failingSince"]),
        "error": itemgetter("lastError"),
    },
)
QUEUE = ObjectKind(
    "run",
    "runs",
    "id status queuedAt workflow { id name } project { id name } options { priority } queueReason { code message runsBefore }",
    "",
    {
        "run": itemgetter("id"),
        "queued": lambda row: age(row["queuedAt"]),
        "priority": lambda row: row["options"]["priority"] or None,
        "before": lambda row: (row["queueReason"] or {}).get("runsBefore"),
        "reason": lambda row: (row["queueReason"] or {}).get("code"),
        "workflow": _name("workflow"),
        "project": _name("project"),
    },
    "RunFilter",
)
WORKER_COLUMNS: Columns = {
    "id": itemgetter("id"),
    "host": itemgetter("host"),
    "pid": itemgetter("pid"),
    "up": lambda row: age(row["startedAt"]),
    "seen": lambda row: age(row["seenAt"]),
    "runs": itemgetter("runs"),
}
_WORKERS = "{ workers { id host pid startedAt seenAt runs } }"
_PROJECTS = """query ($after: String) {
  page: projects(first: 100, after: $after) { nodes { id name } pageInfo { endCursor hasNextPage } } }"""
_WAITS = """query ($id: ID!) { run(id: $id) { id status statusMessage queuedAt deadlineAt resumedAt
queueReason { code message runsBefore } currentNodes { nodeId status message }
waits { __typename nodeId since ... on TimerWait { until } ... on InputWait { waitId prompt expiresAt }
... on RetryWait { until } ... on RunWait { run { id status } } } } }"""


async def list_objects(
    client: ApiClient, kind: ObjectKind, *, limit: int, project: str | None = None, **arguments: Any
) -> list[dict[str, Any]]:
    """Return the first `limit` objects of a list. Raises RunRefused."""
    declared, passed = "", ""
    if kind.filter:
        declared, passed = f", $filter: {kind.filter}", ", filter: $filter"
    elif "search" in arguments:
        declared, passed = ", $search: String", ", search: $search"
    query = f"""query ($first: Int, $after: String, $project: ID{declared}) {{
      page: {kind.plural}(first: $first, after: $after, projectId: $project{passed}) {{
        nodes {{ {kind.listed} }} pageInfo {{ endCursor hasNextPage }} }} }}"""
    arguments["project"] = None if project is None else await project_id(client, project)
    found: list[dict[str, Any]] = []
    after = None
    while len(found) < limit:
        variables = {**arguments, "first": min(PAGE, limit - len(found)), "after": after}
        page = (await client.execute(query, **variables))["page"]
        found += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    return found


async def project_id(client: ApiClient, project: str) -> str:
    """Return the id of the project with this id or name. Raises RunRefused."""
    after = None
    while True:
        page = (await client.execute(_PROJECTS, after=after))["page"]
        for one in page["nodes"]:
            if project in (one["id"], one["name"]):
                return str(one["id"])
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            raise RunRefused(f"there is no project with the id or name {project!r}, or you may not see it")


async def show_object(client: ApiClient, kind: ObjectKind, id: str) -> dict[str, Any]:
    """Return one object. Raises RunRefused."""
    query = f"query ($id: ID!) {{ found: {kind.name}(id: $id) {{ {kind.shown} }} }}"
    found: dict[str, Any] | None = (await client.execute(query, id=id))["found"]
    if found is None:
        raise RunRefused(f"there is no {kind.name} with the id {id!r}, or you may not see it")
    return found


async def list_endpoints(client: ApiClient, project: str | None) -> list[dict[str, Any]]:
    """Return the endpoints of a project, or of all. Raises RunRefused."""
    query = f"query ($project: ID) {{ endpoints(projectId: $project) {{ {ENDPOINTS.listed} }} }}"
    chosen = None if project is None else await project_id(client, project)
    found: list[dict[str, Any]] = (await client.execute(query, project=chosen))["endpoints"]
    return found


async def list_workers(client: ApiClient) -> list[dict[str, Any]]:
    """Return the live workers. Raises RunRefused."""
    workers: list[dict[str, Any]] = (await client.execute(_WORKERS))["workers"]
    return workers


async def explain_run(client: ApiClient, run_id: str) -> dict[str, Any]:
    """Return what a run waits for, with `explanation`: a sentence for each cause. Raises RunRefused."""
    run: dict[str, Any] | None = (await client.execute(_WAITS, id=run_id))["run"]
    if run is None:
        raise RunRefused(f"there is no run with the id {run_id!r}, or you may not see it")
    return {**run, "explanation": explanation(run)}


def explanation(run: dict[str, Any]) -> list[str]:
    """Say what the run waits for, and what lets it continue."""
    status = run["status"]
    if status in TERMINAL:
        return [f"It has ended: {status}. It waits for nothing."]
    fixed = {
        "PENDING": "It was created, and not started yet: `executeRun` starts it.",
        "PAUSED": "It is paused: `resumeRun` continues it.",
        "PAUSING": "It pauses as soon as its running nodes end, or after TREADLE_PAUSING_S.",
        "CANCELLING": "It ends as soon as its nodes have stopped, or after TREADLE_CANCELLING_S.",
    }
    if status in fixed:
        return [" ".join(filter(None, [fixed[status], run["statusMessage"]]))]
    if status == "QUEUED":
        reason = run["queueReason"]
        return [reason["message"] if reason else "A worker has claimed it just now."]
    if status == "WAITING":
        return [_wait_text(wait) for wait in run["waits"]] or ["What it waited for has happened; it is queued now."]
    nodes = [f"{node['nodeId']} is {node['status']}" for node in run["currentNodes"]]
    return [f"A worker executes it: {', '.join(nodes) or 'between two nodes'}."]


def _wait_text(wait: dict[str, Any]) -> str:
    where = f"Node {wait['nodeId']}"
    match wait["__typename"]:
        case "TimerWait" | "RetryWait":
            what = "waits until" if wait["__typename"] == "TimerWait" else "tries again at"
            return f"{where} {what} {wait['until']}."
        case "InputWait":
            expiry = f" It expires at {wait['expiresAt']}." if wait["expiresAt"] else ""
            return f"{where} waits for an answer: `resumeRun` with waitId {wait['waitId']}.{expiry}"
        case "RunWait":
            child = wait["run"] or {}
            return f"{where} waits for the child run {child.get('id')}, which is {child.get('status')}."
        case other:
            return f"{where} waits ({other}) since {wait['since']}."
