"""`treadle export` and `import`: two environments have the same content, whatever their ids are."""

import asyncio
import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import arguments
from app.cli.arguments import ArgumentError
from app.cli.client import ApiClient, RunRefused
from app.cli.main import app
from app.cli.project_files.objects import ENDPOINTS, KINDS, PortableKind, read_object_file
from app.cli.project_files.plan import ImportStep, StepKind, make_plan, warnings_of
from app.cli.project_files.portable import PortableWorkflow, file_name, read_files, with_ids, with_names, write_files
from app.cli.project_files.remote import change, read_project
from app.cli.project_files.transfer import carry_out, check_plan, export

pytestmark = pytest.mark.usefixtures("silent_server")
CHILD = 'Child "}" one'
ORIGINAL = ApiClient.execute
ENDS: list[dict[str, Any]] = [{"id": "start", "type": "start"}, {"id": "end", "type": "end"}]


def spec(*nodes: dict[str, Any]) -> dict[str, Any]:
    ids = ["start", *(node["id"] for node in nodes), "end"]
    edges = [{"id": f"e{n}", "source": a, "target": b} for n, (a, b) in enumerate(itertools.pairwise(ids))]
    return {"nodes": [ENDS[0], *nodes, ENDS[1]], "edges": edges}


async def create(client: ApiClient, project: str, name: str, content: object, *, publish: bool = True) -> str:
    values = {"projectId": project, "name": name, "description": f"About {name}", "spec": content}
    id: str = (await change(client, "createWorkflow", "workflow { id }", **values))["workflow"]["id"]
    if publish:
        await change(client, "createVersion", "version { id }", workflowId=id, publish=True)
    return id


@pytest.fixture
async def api(address: str) -> ApiClient:
    return ApiClient(address)


@pytest.fixture
async def source(api: ApiClient) -> str:
    """A project with workflows that refer to each other, triggers and a secret."""
    project: str = (await change(api, "createProject", "project { id }", name="dev"))["project"]["id"]
    await change(api, "setSecret", "secret { name }", projectId=project, name="hook_key", value="hunter2-hunter2")
    child = await create(api, project, CHILD, spec({"id": "a", "type": "transform", "config": {"output": 1}}))
    call = {
        "id": "call",
        "type": "subworkflow",
        "config": {"workflow": child, "inputs": {"of": f"{{{{ '{child}' }}}}"}},
    }
    parent = await create(api, project, "A parent", spec(call))
    tool = {"name": "a-parent", "description": "Calls a child.", "mcp": True, "http": True}
    await change(api, "updateWorkflow", "workflow { id }", id=parent, expose=tool)
    await create(api, project, "Ünfinished", spec(), publish=False)
    triggers: list[dict[str, Any]] = [
        {"kind": "run_finished", "name": "After child", "config": {"workflowId": child}},
        {"kind": "schedule", "name": "At nine", "config": {"cron": "0 9 * * *"}, "enabled": False},
        {"kind": "webhook", "name": "Hook", "config": {"signature": {"kind": "github", "secret": "hook_key"}}},
    ]
    for trigger in triggers:
        await change(api, "createTrigger", "trigger { id }", workflowId=parent, **trigger)
    return project


@pytest.fixture
async def target(api: ApiClient) -> str:
    """An empty project with the secret that the triggers need."""
    project: str = (await change(api, "createProject", "project { id }", name="prod"))["project"]["id"]
    await change(api, "setSecret", "secret { name }", projectId=project, name="hook_key", value="other-other-other")
    return project


async def export_to(api: ApiClient, project: str, folder: Path, *, drafts: bool = False) -> dict[str, str]:
    """Export a project, and return the content of its files by name."""
    assert export(await read_project(api, project), folder, drafts=drafts) == []
    return contents(folder)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.json"))}


async def import_from(api: ApiClient, project: str, folder: Path, *, prune: bool = False) -> list[ImportStep]:
    found = await read_project(api, project)
    plan = make_plan(found, read_files(folder)[0])
    check_plan(plan)
    await carry_out(found, plan, prune=prune)
    return plan


async def test_an_import_makes_the_same_content_with_other_ids_and_a_repeat_changes_nothing(
    api: ApiClient, address: str, source: str, target: str, tmp_path: Path
) -> None:
    output = await treadle("export", str(tmp_path / "dev"), "--project", "dev", "--url", address)
    assert "exported 3 workflows of dev" in output
    files = contents(tmp_path / "dev")
    assert list(files) == [
        "secrets.json",
        "workflows/a-parent.json",
        "workflows/child-one.json",
        "workflows/ünfinished.json",
    ]
    everything = "".join(files.values())
    assert not re.search(r"(wf|trg|prj|ver)_[0-9a-z]{20}|hunter2", everything)
    assert r"${workflow:\"Child \\\"}\\\" one\"}" in everything
    arguments = "import", str(tmp_path / "dev"), "--project", "prod", "--url", address
    shown = await treadle(*arguments, "--dry-run")
    assert "A parent: create, save the draft, publish, change the exposure, trigger After child" in shown
    assert "+++ files" in shown
    assert "nothing was changed (--dry-run)" in shown
    assert (await read_project(api, target)).workflows == {}
    assert {step["step"] for step in json.loads(await treadle(*arguments, "--json"))["steps"]} == {StepKind.CREATE}
    assert await export_to(api, target, tmp_path / "prod") == files
    before = await versions(api, target)
    assert {step.kind for step in await import_from(api, target, tmp_path / "dev")} == {StepKind.EQUAL}
    assert await versions(api, target) == before
    names = {one["name"]: one["specHash"] for one in map(json.loads, list(files.values())[1:])}
    assert {name: hash for name, hash in (await hashes(api, source)).items() if name == CHILD} == {CHILD: names[CHILD]}


async def treadle(*arguments: str) -> str:
    """Run the command in a thread, as it runs an event loop of its own, and return its output."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_endpoints_follow_the_file_and_are_deleted_only_when_asked(
    api: ApiClient, address: str, source: str, target: str, tmp_path: Path
) -> None:
    url = "https://hooks.example.com/in"
    values = {"url": url, "events": ["RUN_FAILED"], "secret": "hook_key", "tags": ["b", "a"]}
    child = (await read_project(api, source)).workflows[CHILD].id
    await change(api, "createEndpoint", "endpoint { id }", projectId=source, workflowIds=[child], **values)
    await treadle("export", str(tmp_path), "--project", "dev", "--url", address)
    [stored] = json.loads((tmp_path / "endpoints.json").read_text())
    assert (stored["url"], stored["workflows"], stored["tags"]) == (url, [CHILD], ["a", "b"])
    arguments = "import", str(tmp_path), "--project", "prod", "--url", address
    assert f"endpoint {url}: create" in await treadle(*arguments, "--dry-run")
    await treadle(*arguments)
    assert "endpoint" not in await treadle(*arguments)
    listed = json.loads(await treadle("endpoints", "--project", "prod", "--json", "--url", address))
    assert [(one["url"], one["enabled"]) for one in listed] == [(url, True)]
    assert "RUN_FAILED" in await treadle("endpoints", listed[0]["id"], "--url", address)
    rewrite(tmp_path / "endpoints.json", lambda value: value[0].update(enabled=False))
    assert f"endpoint {url}: change" in await treadle(*arguments)
    (tmp_path / "endpoints.json").write_text("[]")
    assert f"stay: {url} (--prune deletes them)" in await treadle(*arguments)
    await treadle(*arguments, "--prune")
    assert "no endpoints" in await treadle("endpoints", "--project", "prod", "--url", address)
    (tmp_path / "endpoints.json").write_text('[{"url": 1}]')
    with pytest.raises(ArgumentError, match="is no list of endpoints"):
        read_object_file(tmp_path, ENDPOINTS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.type)
def test_a_file_with_the_same_key_twice_is_refused(kind: PortableKind, tmp_path: Path) -> None:
    found = {**dict.fromkeys(kind.all_fields, "x"), "workflows": []}
    (tmp_path / kind.file).write_text(json.dumps([found, found]))
    with pytest.raises(ArgumentError, match=f"has several {kind.plural} with the {kind.key} x"):
        read_object_file(tmp_path, kind)


async def test_alert_rules_follow_the_file_and_are_deleted_only_when_asked(
    api: ApiClient, address: str, source: str, target: str, tmp_path: Path
) -> None:
    child = (await read_project(api, source)).workflows[CHILD].id
    rules: list[dict[str, Any]] = [
        {"name": "Failures", "metric": "FAILURE_RATE", "threshold": 0.5, "windowS": 600, "workflowIds": [child]},
        {"name": "Silence", "metric": "NO_RUNS", "windowS": 3600, "tags": ["b", "a"]},
    ]
    for rule in rules:
        await change(api, "createAlertRule", "alertRule { id }", projectId=source, **rule)
    await treadle("export", str(tmp_path), "--project", "dev", "--url", address)
    stored = json.loads((tmp_path / "alert_rules.json").read_text())
    assert [(one["name"], one["workflows"], one["tags"]) for one in stored] == [
        ("Failures", [CHILD], []),
        ("Silence", [], ["a", "b"]),
    ]
    arguments = "import", str(tmp_path), "--project", "prod", "--url", address
    assert "alert rule Silence: create" in await treadle(*arguments, "--dry-run")
    await treadle(*arguments)
    assert "alert rule" not in await treadle(*arguments)
    await treadle("export", str(tmp_path / "again"), "--project", "prod", "--url", address)
    assert json.loads((tmp_path / "again" / "alert_rules.json").read_text()) == stored
    rewrite(tmp_path / "alert_rules.json", lambda value: value[0].update(threshold=0.75, resolveThreshold=0.25))
    assert "alert rule Failures: change" in await treadle(*arguments)
    (tmp_path / "alert_rules.json").write_text("[]")
    assert "stay: Failures, Silence (--prune deletes them)" in await treadle(*arguments)
    await treadle(*arguments, "--prune")
    assert (await api.execute("query ($id: ID) { alertRules(projectId: $id) { id } }", id=target))["alertRules"] == []


async def versions(api: ApiClient, project: str) -> Any:
    query = """query ($id: ID) { workflows(projectId: $id) { nodes { name draft { revision } versions { nodes { number } }
    triggers { nodes { updatedAt } } } } }"""
    return await api.execute(query, id=project)


async def hashes(api: ApiClient, project: str) -> dict[str, str]:
    """The `specHash` of the drafts, as the server knows it."""
    query = "query ($id: ID) { workflows(projectId: $id) { nodes { name draft { specHash } } } }"
    rows = (await api.execute(query, id=project))["workflows"]["nodes"]
    return {row["name"]: row["draft"]["specHash"] for row in rows}


async def test_a_change_is_promoted_and_only_what_differs_is_touched(
    api: ApiClient, source: str, target: str, tmp_path: Path
) -> None:
    await export_to(api, source, tmp_path)
    await import_from(api, target, tmp_path)
    remote = await read_project(api, source)
    child = remote.workflows[CHILD]
    changed = spec({"id": "a", "type": "transform", "config": {"output": 2}})
    await change(api, "saveDraft", "draft { revision }", workflowId=child.id, spec=changed, expectedRevision=1)
    # What is not published is not exported.
    await export_to(api, source, tmp_path)
    assert {step.kind for step in await import_from(api, target, tmp_path)} == {StepKind.EQUAL}
    await change(api, "createVersion", "version { id }", workflowId=child.id, publish=True)
    await export_to(api, source, tmp_path)
    project = await read_project(api, target)
    plan = make_plan(project, read_files(tmp_path)[0])
    [step] = [step for step in plan if step.kind is StepKind.CHANGE]
    assert step.summary().startswith(f"{CHILD}: save the draft, publish (")
    assert (
        '-            "output": 1' in step.difference().replace("  ", " ").replace("- ", "-            ")
        or "+" in step.difference()
    )
    await import_from(api, target, tmp_path)
    assert (await hashes(api, target))[CHILD] == (await hashes(api, source))[CHILD]


async def test_a_draft_with_changes_of_its_own_is_not_overwritten(
    api: ApiClient, source: str, target: str, tmp_path: Path
) -> None:
    await export_to(api, source, tmp_path)
    await import_from(api, target, tmp_path)
    project = await read_project(api, target)
    edited = spec({"id": "mine", "type": "transform", "config": {"output": 0}})
    child = project.workflows[CHILD]
    await change(
        api, "saveDraft", "draft { revision }", workflowId=child.id, spec=edited, expectedRevision=child.revision
    )
    # As long as the published version is the wanted one, the draft is left alone.
    assert {step.kind for step in await import_from(api, target, tmp_path)} == {StepKind.EQUAL}
    rewrite(tmp_path / "workflows" / file_name(CHILD), lambda one: one["spec"]["nodes"][1]["config"].update(output=3))
    with pytest.raises(ArgumentError, match=r"have changes that no version has.*Nothing was changed"):
        await import_from(api, target, tmp_path)
    project = await read_project(api, target)
    await carry_out(project, make_plan(project, read_files(tmp_path)[0]), prune=False)
    assert (await read_project(api, target)).workflows[CHILD].draft.spec["nodes"][1]["config"] == {"output": 3}


def rewrite(path: Path, act: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    act(value)
    path.write_text(json.dumps(value))


async def test_triggers_follow_the_files_and_are_deleted_only_when_asked(
    api: ApiClient, source: str, target: str, tmp_path: Path
) -> None:
    await export_to(api, source, tmp_path)
    await import_from(api, target, tmp_path)

    def edit(value: Any) -> None:
        value["triggers"] = value["triggers"][:2]
        value["triggers"][0] |= {"kind": "schedule", "config": {"cron": "0 1 * * *"}}
        value["triggers"][1]["enabled"] = True

    rewrite(tmp_path / "workflows" / "a-parent.json", edit)
    [step] = [step for step in await import_from(api, target, tmp_path) if step.kind is StepKind.CHANGE]
    assert step.triggers == ("After child", "At nine")
    project = await read_project(api, target)
    plan = make_plan(project, read_files(tmp_path)[0])
    assert [
        line for line in warnings_of(project, plan, ["hook_key", "absent"]) if "A parent" in line or "absent" in line
    ] == [
        "secrets that the project prod does not have: absent",
        "A parent: triggers that the file does not have stay: Hook (--prune deletes them)",
    ]
    await import_from(api, target, tmp_path, prune=True)
    triggers = (await read_project(api, target)).workflows["A parent"].draft.triggers
    assert {one.name: (one.kind, one.enabled) for one in triggers} == {
        "After child": ("schedule", True),
        "At nine": ("schedule", True),
    }


async def test_a_spec_with_problems_changes_nothing_and_an_interrupted_import_is_repeated(
    api: ApiClient, source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await export_to(api, source, tmp_path)
    path = tmp_path / "workflows" / "a-parent.json"
    rewrite(path, lambda one: one["spec"]["nodes"][1].update(type="nonsense"))
    with pytest.raises(RunRefused, match=r"^A parent: .*nonsense.*Nothing was changed"):
        await import_from(api, target, tmp_path)
    assert (await read_project(api, target)).workflows == {}
    path.write_text(files["workflows/a-parent.json"])
    interruptions = 0
    while interruptions < 30:
        # Three changes succeed each time, before the connection is lost.
        left = iter(range(3))

        async def execute(self: ApiClient, query: str, left: Any = left, **variables: Any) -> dict[str, Any]:
            if query.startswith("mutation") and next(left, None) is None:
                raise RunRefused("the connection is lost")
            return await ORIGINAL(self, query, **variables)

        monkeypatch.setattr(ApiClient, "execute", execute)
        try:
            await import_from(api, target, tmp_path)
            break
        except RunRefused:
            interruptions += 1
        finally:
            monkeypatch.undo()
    assert 2 < interruptions < 30
    assert await export_to(api, target, tmp_path / "again") == files


BAD_FILES: list[tuple[str, str, str]] = [
    ("workflows/a.json", "{", "a.json is not valid JSON"),
    ("workflows/a.json", "[]", "a.json is no file of a workflow"),
    ("workflows/a.json", '{"name": "A", "spec": {}}', "is no file of a workflow: 'published'"),
    (
        "workflows/a.json",
        '{"name": "A", "spec": {}, "published": true, "triggers": [{"x": 1}]}',
        "no file of a workflow",
    ),
    (
        "workflows/a.json",
        '{"name": "A", "spec": {}, "published": true, "triggers": ['
        '{"name": 1, "kind": "schedule", "config": {}, "inputs": {}, "enabled": true}]}',
        "the name and the kind of a trigger are texts",
    ),
    (
        "workflows/a.json",
        '{"name": "A", "spec": ' + "[" * 900 + "]" * 900 + ', "published": true}',
        "is nested too deeply",
    ),
    ("other.json", "{}", "has no files: `treadle export"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_FILES)
def test_a_bad_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / name).write_text(text)
    with pytest.raises(ArgumentError, match=re.escape(message)):
        read_files(tmp_path)


def test_two_files_with_one_name_and_unknown_references_are_refused(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    for name in "ab":
        (tmp_path / "workflows" / f"{name}.json").write_text('{"name": "A", "spec": {}, "published": false}')
    with pytest.raises(ArgumentError, match=r"several files in .* have the name 'A'"):
        read_files(tmp_path)
    with pytest.raises(ArgumentError, match="has no workflow 'B'"):
        with_ids({"a": ['x${workflow:"B"}']}, {"A": "wf_1"})


NAMES = ["A", 'q"uote', "br{ace}", "back\\slash", "ü", "${workflow:"]


@pytest.mark.parametrize("name", NAMES)
def test_references_survive_any_name(name: str) -> None:
    id = "wf_01h45ytscbebyvny4gc8cr8ma2"
    value = {"a": [f"{{{{ '{id}' }}}} and {id}", 1, None]}
    portable = with_names(value, {id: name})
    assert id not in json.dumps(portable)
    assert with_ids(portable, {name: id}) == value


WORKFLOW = PortableWorkflow("A", "", {"nodes": [], "edges": []}, published=False)


def test_an_export_follows_no_link_out_of_its_folder(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("precious", "a.json", "b.json"):
        (other / name).write_text("stays")
    folder = tmp_path / "checkout"
    (folder / "workflows").mkdir(parents=True)
    for link in ("workflows/.a.json.new", "workflows/a.json", "workflows/b.json", ".secrets.json.new", "secrets.json"):
        (folder / link).symlink_to(other / "precious")
    write_files(folder, [WORKFLOW], ["key"])
    assert {path.read_text() for path in other.iterdir()} == {"stays"}
    assert sorted(path.name for path in (folder / "workflows").iterdir()) == ["a.json"]
    assert not (folder / "workflows" / "a.json").is_symlink()
    (linked := tmp_path / "linked").mkdir()
    (linked / "workflows").symlink_to(other)
    with pytest.raises(ArgumentError, match="is a symbolic link"):
        write_files(linked, [WORKFLOW], [])
    assert len(list(other.iterdir())) == 3


@pytest.mark.parametrize("kind", ["pipe", "device", "large", "folder"])
def test_an_import_reads_regular_files_of_a_bounded_size_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(arguments, "MAX_FILE", 1000)
    write_files(tmp_path, [WORKFLOW], [])
    path = tmp_path / "workflows" / "b.json"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "large":
            path.write_text(" " * 1001)
        case "folder":
            path.mkdir()
    with pytest.raises(ArgumentError, match=r"b\.json (cannot be read|has more than)"):
        read_files(tmp_path)
