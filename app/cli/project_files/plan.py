"""The difference between files and a project: what an import would change. Pure."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.cli.project_files.portable import PortableWorkflow
from app.cli.project_files.remote import RemoteProject, RemoteWorkflow


class StepKind(StrEnum):
    """What an import does with one workflow."""

    CREATE = "CREATE"
    CHANGE = "CHANGE"
    EQUAL = "EQUAL"


@dataclass(frozen=True, slots=True)
class ImportStep:
    """One workflow of the files, beside that of the project."""

    wanted: PortableWorkflow
    present: RemoteWorkflow | None
    saves_draft: bool
    publishes: bool
    triggers: tuple[str, ...]
    """The names of triggers that are created or changed."""
    surplus: tuple[str, ...]
    """The names of triggers that the file does not have. They stay, unless they are pruned."""
    loses_draft: bool
    """Whether the draft has changes that no version has, and that would be overwritten."""

    @property
    def kind(self) -> StepKind:
        if self.present is None:
            return StepKind.CREATE
        changes = self.saves_draft or self.publishes or self.triggers or self.describes or self.exposes
        return StepKind.CHANGE if changes else StepKind.EQUAL

    @property
    def describes(self) -> bool:
        """Whether the description changes."""
        return self.present is not None and self.present.draft.description != self.wanted.description

    @property
    def exposes(self) -> bool:
        """Whether the exposure changes."""
        present = None if self.present is None else self.present.draft.expose
        return self.wanted.expose is not ... and self.wanted.expose != present

    @property
    def base(self) -> PortableWorkflow | None:
        """What the project has instead of the file."""
        if self.present is None:
            return None
        return self.present.published if self.wanted.published and self.present.published else self.present.draft

    def summary(self) -> str:
        """Return one line: the name, what happens, and the hashes."""
        before = self.base.hash[:12] if self.base is not None else "nothing"
        parts = ["create" if self.present is None else "", "save the draft" if self.saves_draft else ""]
        parts += ["publish" if self.publishes else "", "change the description" if self.describes else ""]
        parts += ["change the exposure" if self.exposes else ""]
        parts += [f"trigger {name}" for name in self.triggers]
        text = ", ".join(filter(None, parts)) or "equal"
        return f"{self.wanted.name}: {text} ({before} → {self.wanted.hash[:12]})"

    def difference(self) -> str:
        """Return the unified difference of the two files."""
        before = "" if self.base is None else self.base.text()
        lines = difflib.unified_diff(
            before.splitlines(), self.wanted.text().splitlines(), "project", "files", lineterm="", n=2
        )
        return "\n".join(lines)


def make_plan(project: RemoteProject, workflows: Sequence[PortableWorkflow]) -> list[ImportStep]:
    """Compare the files with the project. A referenced workflow comes before those that refer to it."""
    return [_step(workflow, project.workflows.get(workflow.name)) for workflow in _ordered(workflows)]


def _step(wanted: PortableWorkflow, present: RemoteWorkflow | None) -> ImportStep:
    if present is None:
        names = tuple(trigger.name for trigger in wanted.triggers)
        return ImportStep(wanted, None, True, wanted.published, names, (), False)
    published = present.published
    publishes = wanted.published and (published is None or published.hash != wanted.hash)
    # A published content that is equal leaves a draft alone on which somebody works.
    saves = present.draft.spec != wanted.spec and (publishes or not wanted.published)
    existing = {trigger.name: trigger for trigger in present.draft.triggers}
    changed = tuple(trigger.name for trigger in wanted.triggers if existing.get(trigger.name) != trigger)
    surplus = tuple(sorted(existing.keys() - {trigger.name for trigger in wanted.triggers}))
    return ImportStep(wanted, present, saves, publishes, changed, surplus, saves and present.is_edited)


def _ordered(workflows: Sequence[PortableWorkflow]) -> list[PortableWorkflow]:
    by_name, done = {workflow.name: workflow for workflow in workflows}, dict[str, PortableWorkflow]()
    entered: set[str] = set()

    def visit(workflow: PortableWorkflow) -> None:
        if workflow.name in entered:
            return
        entered.add(workflow.name)
        for name in sorted(workflow.references & by_name.keys()):
            visit(by_name[name])
        done[workflow.name] = workflow

    for workflow in sorted(workflows, key=lambda one: one.name):
        visit(workflow)
    return list(done.values())


def warnings_of(project: RemoteProject, plan: Sequence[ImportStep], secrets: Sequence[str]) -> list[str]:
    """Say what an import does not do, and what it needs."""
    missing = sorted(set(secrets) - set(project.secrets))
    surplus = sorted(project.workflows.keys() - {step.wanted.name for step in plan})
    lines = [f"secrets that the project {project.name} does not have: {', '.join(missing)}"] if missing else []
    lines += [f"workflows that the files do not have stay unchanged: {', '.join(surplus)}"] if surplus else []
    lines += [
        f"{step.wanted.name}: triggers that the file does not have stay: {', '.join(step.surplus)} (--prune deletes them)"
        for step in plan
        if step.surplus
    ]
    return lines
