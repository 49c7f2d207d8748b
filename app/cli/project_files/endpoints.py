"""Endpoints of a project as one file, `endpoints.json`: the address identifies an endpoint.

The name of the secret is a part of the file, its value is not. Workflows are names. A project without
endpoints has no such file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.cli.arguments import ArgumentError
from app.cli.client import ApiClient, RunRefused
from app.cli.project_files.portable import read_value, replace_file
from app.cli.project_files.remote import RemoteProject, change

FILE = "endpoints.json"
HIDDEN = "/•••"
"""The end of an address that the caller may not see whole."""
_LIST = """query ($id: ID) { endpoints(projectId: $id) {
    id url description events tags secret enabled workflows { id } } }"""


@dataclass(frozen=True, slots=True)
class PortableEndpoint:
    """An endpoint, known by its address. `workflows` are names."""

    url: str
    description: str
    events: list[str]
    workflows: list[str]
    tags: list[str]
    secret: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """What an import changes: new endpoints, changed ones by id, and those that the files do not have."""

    created: list[PortableEndpoint]
    changed: dict[str, PortableEndpoint]
    surplus: dict[str, str]
    """Addresses by id."""

    def summary(self) -> list[str]:
        """Return one line for each change."""
        lines = [f"endpoint {one.url}: create" for one in self.created]
        return lines + [f"endpoint {one.url}: change" for one in self.changed.values()]


async def read_endpoints(client: ApiClient, project: RemoteProject) -> dict[str, PortableEndpoint]:
    """Read the endpoints of a project, by id. Raises RunRefused."""
    names = {one.id: name for name, one in project.workflows.items()}
    rows = (await client.execute(_LIST, id=project.id))["endpoints"]
    found = {row["id"]: _portable(row, names) for row in rows}
    addresses = [one.url for one in found.values()]
    if twice := sorted({one for one in addresses if addresses.count(one) > 1 and not one.endswith(HIDDEN)}):
        raise RunRefused(f"several endpoints of the project have the address {twice[0]}: files need unique ones")
    return found


def _portable(row: Mapping[str, Any], names: Mapping[str, str]) -> PortableEndpoint:
    workflows = sorted(names[one["id"]] for one in row["workflows"] if one["id"] in names)
    plain = {name: row[name] for name in ("url", "description", "secret", "enabled")}
    return PortableEndpoint(events=sorted(row["events"]), tags=sorted(row["tags"]), workflows=workflows, **plain)


def write_endpoints(folder: Path, endpoints: Sequence[PortableEndpoint]) -> list[str]:
    """Write the file, and return warnings. Endpoints whose address is hidden are left out."""
    shown = sorted((one for one in endpoints if not one.url.endswith(HIDDEN)), key=lambda one: one.url)
    path = folder / FILE
    if shown:
        replace_file(path, json.dumps([asdict(one) for one in shown], ensure_ascii=False, indent=2) + "\n")
    else:
        path.unlink(missing_ok=True)
    hidden = len(endpoints) - len(shown)
    return [f"{hidden} endpoints are left out: only editors see their addresses"] if hidden else []


def read_endpoint_file(folder: Path) -> list[PortableEndpoint] | None:
    """Read the file; None if there is none, so that an import changes no endpoint. Raises ArgumentError."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = [PortableEndpoint(**one) for one in read_value(path)]
    except TypeError as error:
        fields = ", ".join(PortableEndpoint.__slots__)
        raise ArgumentError(f"{path} is no list of endpoints: each has {fields}") from error
    if not all(isinstance(one.url, str) and isinstance(one.workflows, list) for one in found):
        raise ArgumentError(f"{path} is no list of endpoints: `url` is a text, and `workflows` a list of names")
    return found


def plan_endpoints(present: Mapping[str, PortableEndpoint], wanted: Sequence[PortableEndpoint] | None) -> EndpointPlan:
    """Compare the file with the project."""
    if wanted is None:
        return EndpointPlan([], {}, {})
    ids = {one.url: id for id, one in present.items()}
    created = [one for one in wanted if one.url not in ids]
    changed = {ids[one.url]: one for one in wanted if one.url in ids and present[ids[one.url]] != one}
    addresses = {one.url for one in wanted}
    return EndpointPlan(created, changed, {id: one.url for id, one in present.items() if one.url not in addresses})


async def import_endpoints(project: RemoteProject, plan: EndpointPlan, *, prune: bool) -> None:
    """Create and change endpoints. The workflows of the files exist. Raises RunRefused."""
    ids = {name: one.id for name, one in project.workflows.items()}
    for endpoint in plan.created:
        await _change(project, "createEndpoint", endpoint, ids, projectId=project.id)
    for id, endpoint in plan.changed.items():
        await _change(project, "updateEndpoint", endpoint, ids, id=id)
    for id in plan.surplus if prune else ():
        await change(project.client, "deleteEndpoint", "deletedId", id=id)


async def _change(
    project: RemoteProject, mutation: str, endpoint: PortableEndpoint, ids: Mapping[str, str], **more: str
) -> None:
    if unknown := sorted(set(endpoint.workflows) - ids.keys()):
        raise RunRefused(f"endpoint {endpoint.url}: the project has no workflow {unknown[0]!r}")
    values = {name: value for name, value in asdict(endpoint).items() if name != "workflows"}
    values["workflowIds"] = [ids[name] for name in endpoint.workflows]
    try:
        await change(project.client, mutation, "endpoint { id }", **values, **more)
    except RunRefused as error:
        raise RunRefused(f"endpoint {endpoint.url}: {error}") from error
