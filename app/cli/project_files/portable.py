"""Workflows and triggers as files: names instead of ids, keys in a stable order, no secrets.

A folder has one file for each workflow, and `secrets.json` with the names of the secrets that the
project has. A reference to a workflow is written `${workflow:"NAME"}`, also inside of a template.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.cli.arguments import ArgumentError, parse_json, read_text
from engine.spec.identity import spec_hash
from engine.types import JSON

SECRETS = "secrets.json"
FOLDER = "workflows"
_ID = re.compile(r"\bwf_[0-9a-hjkmnp-tv-z]{26}\b")
_REFERENCE = re.compile(r'\$\{workflow:("(?:[^"\\]|\\.)*")\}')


@dataclass(frozen=True, slots=True)
class PortableTrigger:
    """A trigger of a workflow, known by its name."""

    name: str
    kind: str
    config: JSON
    inputs: JSON
    enabled: bool


@dataclass(frozen=True, slots=True)
class PortableWorkflow:
    """A workflow of a project, known by its name. `spec` has names instead of ids."""

    name: str
    description: str
    spec: JSON
    published: bool
    """Whether a version with this content is published, or is to be published."""
    triggers: tuple[PortableTrigger, ...] = field(default=())
    expose: JSON = ...
    """How other systems and agents run it; None if they do not. An ellipsis for a file that does not say it."""

    @property
    def hash(self) -> str:
        """The `specHash` of the portable spec: equal in all environments."""
        return spec_hash(self.spec)

    @property
    def references(self) -> set[str]:
        """The names of the workflows that the spec and the triggers refer to."""
        names = set[str]()

        def collect(text: str) -> str:
            names.update(json.loads(quoted) for quoted in _REFERENCE.findall(text))
            return text

        _mapped([self.spec, [trigger.config for trigger in self.triggers]], collect)
        return names - {self.name}

    def text(self) -> str:
        """Return the content of its file."""
        value = {
            "name": self.name,
            "description": self.description,
            "specHash": self.hash,
            "published": self.published,
            **({} if self.expose is ... else {"expose": self.expose}),
            "spec": self.spec,
            "triggers": [
                {name: getattr(one, name) for name in PortableTrigger.__slots__}
                for one in sorted(self.triggers, key=lambda one: one.name)
            ],
        }
        return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def with_names(value: JSON, names: Mapping[str, str]) -> JSON:
    """Replace the ids of workflows in all texts by references; `names` are those of the project, by id."""
    return _mapped(value, lambda text: _ID.sub(lambda match: _reference(match[0], names), text))


def with_ids(value: JSON, ids: Mapping[str, str]) -> JSON:
    """Replace references by the ids of the project. Raises ArgumentError for an unknown name."""

    def id_of(match: re.Match[str]) -> str:
        name = json.loads(match[1])
        if name not in ids:
            raise ArgumentError(f"the project has no workflow {name!r}, to which a file refers: add its file")
        return ids[name]

    return _mapped(value, lambda text: _REFERENCE.sub(id_of, text))


def _reference(id: str, names: Mapping[str, str]) -> str:
    return f"${{workflow:{json.dumps(names[id], ensure_ascii=False)}}}" if id in names else id


def _mapped(value: JSON, change: Callable[[str], str]) -> JSON:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return value


def foreign_ids(workflow: PortableWorkflow) -> list[str]:
    """Return the ids of workflows that are not in the project, and therefore stay ids."""
    return sorted(set(_ID.findall(json.dumps([workflow.spec, [one.config for one in workflow.triggers]]))))


def file_name(name: str) -> str:
    """Return the name of a workflow's file: its letters and digits, in lower case."""
    return (re.sub(r"[\W_]+", "-", name.lower()).strip("-") or "workflow") + ".json"


def write_files(folder: Path, workflows: Sequence[PortableWorkflow], secrets: Sequence[str]) -> None:
    """Write all files, and remove those of workflows that are gone. Raises ArgumentError.

    The folder may be a checkout of what others have written, so no link in it leads a write or a removal to
    another place.
    """
    names = [file_name(workflow.name) for workflow in workflows]
    if twice := {name for name in names if names.count(name) > 1}:
        same = [workflow.name for workflow in workflows if file_name(workflow.name) in twice]
        raise ArgumentError(f"these workflows would have one file: {', '.join(sorted(same))}. Rename them")
    target = folder / FOLDER
    try:
        if target.is_symlink():
            raise ArgumentError(
                f"{target} is a symbolic link: remove it, so that no file of another folder is replaced"
            )
        target.mkdir(parents=True, exist_ok=True)
        for workflow in workflows:
            replace_file(target / file_name(workflow.name), workflow.text())
        replace_file(folder / SECRETS, json.dumps(sorted(secrets), ensure_ascii=False, indent=2) + "\n")
        for path in target.glob("*.json"):
            if path.name not in names:
                path.unlink()
    except OSError as error:
        raise ArgumentError(f"{error.filename or folder} cannot be written: {error.strerror}") from error


def replace_file(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with fresh.open("x", encoding="utf-8") as file:  # It fails at a link, and follows none.
        file.write(text)
    fresh.rename(path)


def read_files(folder: Path) -> tuple[list[PortableWorkflow], list[str]]:
    """Read all workflows, by name, and the names of the secrets. Raises ArgumentError."""
    paths = sorted((folder / FOLDER).glob("*.json"))
    if not paths:
        raise ArgumentError(f"{folder / FOLDER} has no files: `treadle export {folder}` writes them")
    workflows = [_read_workflow(path) for path in paths]
    names = [workflow.name for workflow in workflows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ArgumentError(f"several files in {folder / FOLDER} have the name {twice[0]!r}")
    secrets = read_value(folder / SECRETS) if (folder / SECRETS).exists() else []
    if not isinstance(secrets, list):
        raise ArgumentError(f"{folder / SECRETS} must be a list of names")
    return workflows, [str(name) for name in secrets]


def _read_workflow(path: Path) -> PortableWorkflow:
    value = read_value(path)
    try:
        triggers = tuple(PortableTrigger(**one) for one in value.get("triggers", []))
        if not all(isinstance(one.name, str) and isinstance(one.kind, str) for one in triggers):
            raise ArgumentError(f"{path} is no file of a workflow: the name and the kind of a trigger are texts")
        names = [one.name for one in triggers]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ArgumentError(f"{path} has several triggers with the name {min(twice)!r}")
        workflow = PortableWorkflow(
            str(value["name"]),
            str(value.get("description", "")),
            value["spec"],
            bool(value["published"]),
            triggers,
            value.get("expose", ...),
        )
        workflow.references, workflow.text()
        return workflow
    except RecursionError as error:
        raise ArgumentError(f"{path} is nested too deeply") from error
    except (LookupError, TypeError, AttributeError) as error:
        raise ArgumentError(f"{path} is no file of a workflow: {error or type(error).__name__}") from error


def read_value(path: Path) -> Any:
    """Read a file of JSON. Raises ArgumentError."""
    return parse_json(read_text(path), str(path))
