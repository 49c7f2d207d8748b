"""Endpoints and alert rules of a project as one file each: `endpoints.json` and `alert_rules.json`.

The address identifies an endpoint, the name an alert rule. The name of a secret is a part of the file, its
value is not. Workflows are names. A project without such objects has no such file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.arguments import ArgumentError
from app.cli.client import ApiClient, RunRefused
from app.cli.project_files.portable import read_value, replace_file
from app.cli.project_files.remote import RemoteProject, change

HIDDEN = "/•••"
"""The end of an address that the caller may not see whole."""
PortableObject = dict[str, Any]
"""The fields of an object, with the names of its workflows as `workflows`."""


@dataclass(frozen=True, slots=True)
class PortableKind:
    """A kind of objects: its names in the API, and its fields in the file.

    Attributes:
        type: The last part of its mutations.
        key: The field that identifies an object.
    """

    noun: str
    plural: str
    type: str
    listed: str
    file: str
    key: str
    fields: tuple[str, ...]

    @property
    def field(self) -> str:
        """The field of an object in the payloads of mutations."""
        return f"{self.type[0].lower()}{self.type[1:]}"

    @property
    def all_fields(self) -> set[str]:
        return {*self.fields, "workflows"}


ENDPOINTS = PortableKind(
    "endpoint",
    "endpoints",
    "Endpoint",
    "endpoints",
    "endpoints.json",
    "url",
    ("url", "description", "events", "tags", "secret", "enabled"),
)
ALERT_RULES = PortableKind(
    "alert rule",
    "alert rules",
    "AlertRule",
    "alertRules",
    "alert_rules.json",
    "name",
    ("name", "metric", "threshold", "resolveThreshold", "windowS", "forS", "minRuns", "tags", "enabled"),
)
KINDS = (ENDPOINTS, ALERT_RULES)
_ONLY_WITH_THRESHOLD = ("threshold", "resolveThreshold")
"""Fields that a rule for no runs does not have."""


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """What an import changes: new objects, changed ones by id, and those that the files do not have.

    `surplus` has the keys by id.
    """

    kind: PortableKind
    created: list[PortableObject]
    changed: dict[str, PortableObject]
    surplus: dict[str, str]

    def summary(self) -> list[str]:
        """Return one line for each change."""
        noun, key = self.kind.noun, self.kind.key
        lines = [f"{noun} {one[key]}: create" for one in self.created]
        return lines + [f"{noun} {one[key]}: change" for one in self.changed.values()]

    def warnings(self) -> list[str]:
        """Return a warning if objects stay that the files do not have."""
        if not self.surplus:
            return []
        listed = ", ".join(sorted(self.surplus.values()))
        return [f"{self.kind.plural} that the files do not have stay: {listed} (--prune deletes them)"]


async def read_objects(client: ApiClient, project: RemoteProject, kind: PortableKind) -> dict[str, PortableObject]:
    """Read the objects of a project, by id. Raises RunRefused."""
    names = {one.id: name for name, one in project.workflows.items()}
    fields = " ".join(kind.fields)
    query = f"query ($id: ID) {{ found: {kind.listed}(projectId: $id) {{ id {fields} workflows {{ id }} }} }}"
    rows = (await client.execute(query, id=project.id))["found"]
    found = {row["id"]: _portable(kind, row, names) for row in rows}
    keys = [str(one[kind.key]) for one in found.values()]
    if twice := sorted({one for one in keys if keys.count(one) > 1 and not one.endswith(HIDDEN)}):
        raise RunRefused(f"several {kind.plural} of the project have the {kind.key} {twice[0]}: files need unique ones")
    return found


def _portable(kind: PortableKind, row: Mapping[str, Any], names: Mapping[str, str]) -> PortableObject:
    values = {name: sorted(row[name]) if isinstance(row[name], list) else row[name] for name in kind.fields}
    return {**values, "workflows": sorted(names[one["id"]] for one in row["workflows"] if one["id"] in names)}


def write_objects(folder: Path, kind: PortableKind, objects: Sequence[PortableObject]) -> list[str]:
    """Write the file, and return warnings. Objects whose key is hidden are left out."""
    visible = [one for one in objects if not one[kind.key].endswith(HIDDEN)]
    path = folder / kind.file
    if visible:
        visible.sort(key=lambda one: str(one[kind.key]))
        replace_file(path, json.dumps(visible, ensure_ascii=False, indent=2) + "\n")
    else:
        path.unlink(missing_ok=True)
    hidden = len(objects) - len(visible)
    return [f"{hidden} {kind.plural} are left out: only editors see their addresses"] if hidden else []


def read_object_file(folder: Path, kind: PortableKind) -> list[PortableObject] | None:
    """Read the file; None if there is none, so that an import changes no object. Raises ArgumentError."""
    path = folder / kind.file
    if not path.exists():
        return None
    found = read_value(path)
    if not isinstance(found, list) or not all(isinstance(one, dict) and set(one) == kind.all_fields for one in found):
        fields = ", ".join([*kind.fields, "workflows"])
        raise ArgumentError(f"{path} is no list of {kind.plural}: each has {fields}")
    if not all(isinstance(one[kind.key], str) and isinstance(one["workflows"], list) for one in found):
        raise ArgumentError(
            f"{path} is no list of {kind.plural}: `{kind.key}` is a text, and `workflows` a list of names"
        )
    keys = [one[kind.key] for one in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ArgumentError(f"{path} has several {kind.plural} with the {kind.key} {twice[0]}")
    return found


def plan_objects(
    kind: PortableKind, present: Mapping[str, PortableObject], wanted: Sequence[PortableObject] | None
) -> ObjectPlan:
    """Compare the file with the project."""
    if wanted is None:
        return ObjectPlan(kind, [], {}, {})
    ids = {one[kind.key]: id for id, one in present.items()}
    keys = {one[kind.key] for one in wanted}
    return ObjectPlan(
        kind,
        [one for one in wanted if one[kind.key] not in ids],
        {ids[one[kind.key]]: one for one in wanted if one[kind.key] in ids and present[ids[one[kind.key]]] != one},
        {id: str(one[kind.key]) for id, one in present.items() if one[kind.key] not in keys},
    )


async def import_objects(project: RemoteProject, plan: ObjectPlan, *, prune: bool) -> None:
    """Create and change objects. The workflows of the files exist. Raises RunRefused."""
    for one in plan.created:
        await _change(project, plan.kind, "create", one, projectId=project.id)
    for id, one in plan.changed.items():
        await _change(project, plan.kind, "update", one, id=id)
    for id in plan.surplus if prune else ():
        await change(project.client, f"delete{plan.kind.type}", "deletedId", id=id)


async def _change(project: RemoteProject, kind: PortableKind, verb: str, one: PortableObject, **more: str) -> None:
    ids = {name: workflow.id for name, workflow in project.workflows.items()}
    if unknown := sorted(set(one["workflows"]) - ids.keys()):
        raise RunRefused(f"{kind.noun} {one[kind.key]}: the project has no workflow {unknown[0]!r}")
    values = {name: value for name, value in one.items() if name != "workflows"}
    if values.get("metric") == "NO_RUNS":
        values = {name: value for name, value in values.items() if name not in _ONLY_WITH_THRESHOLD}
    values["workflowIds"] = [ids[name] for name in one["workflows"]]
    try:
        await change(project.client, f"{verb}{kind.type}", f"{kind.field} {{ id }}", **values, **more)
    except RunRefused as error:
        raise RunRefused(f"{kind.noun} {one[kind.key]}: {error}") from error
