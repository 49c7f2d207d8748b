"""Trial runs, names and notes of versions, and comparisons of versions and of runs over the API."""

from dataclasses import replace
from typing import Any

import pytest

from engine.events import Usage
from engine.states import NodeStatus, RunStatus
from resolvers.context import Context
from resolvers.loaders import Loaders
from schema.schema import schema
from tests.journal_worker import JournalWorker
from tests.schema_client import PROBLEM, call, mutate, new_workflow, with_output

VERSIONS = """query($id: ID!) { workflow(id: $id) { versions { nodes { number name } } version(number: 0) { id }
  draft { id matchesVersion { number } } } }"""
RUN = "run { id version { id number } }"
DIFF = """query($from: ID!, $to: ID!) { diffVersions(from: $from, to: $to) {
  nodes { nodeId previousId change fields { path before after } } edges { edgeId change } other { path } } }"""


async def save(context: Context, workflow_id: str, spec: Any, revision: int) -> None:
    saved = await mutate(
        context, "saveDraft", "draft { id }", workflowId=workflow_id, spec=spec, expectedRevision=revision
    )
    assert saved["errors"] == []


async def version(context: Context, workflow_id: str, **more: Any) -> dict[str, Any]:
    answer = "created version { id number name note }"
    payload = await mutate(context, "createVersion", answer, workflowId=workflow_id, **more)
    assert payload["errors"] == []
    return payload


async def test_trial_runs_use_up_no_version_numbers(context: Context) -> None:
    workflow_id = await new_workflow(context)
    trials = []
    for revision in range(1, 4):
        run = (await mutate(context, "runWorkflow", RUN, workflowId=workflow_id))["run"]
        again = (await mutate(context, "runWorkflow", RUN, workflowId=workflow_id, draftRevision=revision))["run"]
        assert run["version"] == again["version"] and run["version"]["number"] == 0
        trials.append(run["version"]["id"])
        await save(context, workflow_id, with_output(revision), revision)
    assert len(set(trials)) == 3
    found = (await call(context, VERSIONS, id=workflow_id))["workflow"]
    assert (found["versions"]["nodes"], found["version"], found["draft"]["matchesVersion"]) == ([], None, None)
    await mutate(context, "runWorkflow", RUN, workflowId=workflow_id)
    created = await version(context, workflow_id)
    assert (created["created"], created["version"]["number"]) == (True, 1)
    run = (await mutate(context, "runWorkflow", RUN, workflowId=workflow_id))["run"]
    assert run["version"] == {"id": created["version"]["id"], "number": 1}
    await save(context, workflow_id, with_output("other"), 4)
    assert (await version(context, workflow_id))["version"]["number"] == 2
    assert (await call(context, VERSIONS, id=workflow_id))["workflow"]["draft"]["matchesVersion"] == {"number": 2}
    for name in ("publishVersion", "archiveVersion"):
        [problem] = (await mutate(context, name, "version { id }", versionId=trials[0]))["errors"]
        assert problem["code"] == "INVALID_STATE" and "trial run" in problem["detail"]
    restored = await mutate(context, "restoreVersion", "draft { revision }", versionId=trials[0], expectedRevision=5)
    assert restored["draft"] == {"revision": 6}


async def test_a_version_has_a_name_and_a_note(context: Context) -> None:
    workflow_id = await new_workflow(context)
    created = (await version(context, workflow_id, name=" First ", note="It works."))["version"]
    assert (created["name"], created["note"]) == ("First", "It works.")
    again = await version(context, workflow_id, name="Better")
    assert (again["created"], again["version"]) == (False, {**created, "name": "Better"})
    assert (await version(context, workflow_id))["version"]["name"] == "Better"
    update = "version { name note }"
    changed = await mutate(context, "updateVersion", update, versionId=created["id"], name=None)
    assert changed["version"] == {"name": None, "note": "It works."}
    assert (await mutate(context, "updateVersion", update, versionId=created["id"]))["version"] == changed["version"]
    for field, text in (("name", "x" * 201), ("note", "x" * 10_001)):
        [problem] = (await mutate(context, "updateVersion", update, versionId=created["id"], **{field: text}))["errors"]
        assert [error["field"] for error in problem["errors"]] == [f"input.{field}"]


async def test_versions_and_drafts_are_compared(context: Context) -> None:
    workflow_id = await new_workflow(context, with_output("a"))
    first = (await version(context, workflow_id))["version"]["id"]
    spec = with_output("b")
    spec["nodes"] = [spec["nodes"][0], {**spec["nodes"][1], "id": "finish"}]
    await save(context, workflow_id, {**spec, "edges": [{"source": "start", "target": "finish"}]}, 1)
    draft = (await call(context, VERSIONS, id=workflow_id))["workflow"]["draft"]["id"]
    found = (await call(context, DIFF, **{"from": first, "to": draft}))["diffVersions"]
    assert found == {
        "nodes": [
            {
                "nodeId": "finish",
                "previousId": "end",
                "change": "MODIFIED",
                "fields": [{"path": "config.output", "before": "a", "after": "b"}],
            }
        ],
        "edges": [],
        "other": [],
    }
    assert (await call(context, DIFF, **{"from": first, "to": first}))["diffVersions"]["nodes"] == []


@pytest.mark.parametrize(
    "unknown", ["ver_7zzzzzzzzzzzzzzzzzzzzzzzzz", "dft_7zzzzzzzzzzzzzzzzzzzzzzzzz", "run_x", "nonsense"]
)
async def test_what_is_unknown_or_hidden_is_not_compared(context: Context, unknown: str) -> None:
    workflow_id = await new_workflow(context)
    known = (await version(context, workflow_id))["version"]["id"]
    run_id = (await mutate(context, "runWorkflow", RUN, workflowId=workflow_id))["run"]["id"]
    runs = "query($from: ID!, $to: ID!) { compareRuns(a: $from, b: $to) { a { id } } }"
    cases = [(DIFF, known, unknown), (DIFF, unknown, known), (runs, run_id, unknown), (runs, unknown, run_id)]
    for query, before, after in cases:
        result = await schema.execute(query, variable_values={"from": before, "to": after}, context_value=context)
        assert [(error.extensions or {})["code"] for error in result.errors or []] == ["NOT_FOUND"]
    context.caller = replace(context.caller, roles={})
    context.loaders = Loaders(context.database, context.caller)
    for query, id in ((DIFF, known), (runs, run_id)):
        result = await schema.execute(query, variable_values={"from": id, "to": id}, context_value=context)
        assert [(error.extensions or {})["code"] for error in result.errors or []] == ["NOT_FOUND"]


async def test_runs_are_compared_by_node_also_after_a_renaming(context: Context, worker: JournalWorker) -> None:
    workflow_id = await new_workflow(context, with_output("{{ input.value }}"))
    one = (await mutate(context, "runWorkflow", RUN, workflowId=workflow_id, inputs={"value": 1}))["run"]["id"]
    spec = with_output("{{ input.value }}")
    spec["nodes"] = [spec["nodes"][0], {**spec["nodes"][1], "id": "finish"}]
    await save(context, workflow_id, {**spec, "edges": [{"source": "start", "target": "finish"}]}, 1)
    other = (await mutate(context, "runWorkflow", RUN, workflowId=workflow_id, inputs={"value": 2}))["run"]["id"]
    for run_id, end, output, cost in (
        (one, "end", {"n": 1, "s": "x"}, 0.25),
        (other, "finish", {"n": 2, "s": "x"}, 1.0),
    ):
        run = await context.loaders.run.load(run_id)
        assert run is not None
        held = await worker.claim(run)
        usage = Usage("echo", 1, 1, cost)
        await held.node("start", NodeStatus.COMPLETED, visits=1, output=1, has_output=True)
        await held.node(end, NodeStatus.COMPLETED, visits=1, output=output, has_output=True, usage=usage)
        await held.finish(RunStatus.COMPLETED)
    query = """query($a: ID!, $b: ID!) { compareRuns(a: $a, b: $b) { a { id status } b { id } isSameStatus durationDeltaMs
      costUsdA costUsdB inputDiff { path before after } outputDiff { path }
      nodes { nodeId previousId a { status } b { nodeId } costDeltaUsd outputDiff { path before after } } } }"""
    found = (await call(context, query, a=one, b=other))["compareRuns"]
    assert (found["a"], found["b"], found["isSameStatus"]) == ({"id": one, "status": "COMPLETED"}, {"id": other}, True)
    assert (found["costUsdA"], found["costUsdB"], found["outputDiff"]) == (0.25, 1.0, [])
    assert isinstance(found["durationDeltaMs"], float)
    assert found["inputDiff"] == [{"path": "value", "before": 1, "after": 2}]
    start, finish = found["nodes"]
    assert (start["nodeId"], start["outputDiff"], start["costDeltaUsd"]) == ("start", [], 0.0)
    assert (finish["nodeId"], finish["previousId"], finish["costDeltaUsd"]) == ("finish", "end", 0.75)
    assert finish["outputDiff"] == [{"path": "n", "before": 1, "after": 2}]


async def test_a_version_and_a_revision_of_the_draft_exclude_each_other(context: Context) -> None:
    workflow_id = await new_workflow(context)
    version_id = (await version(context, workflow_id))["version"]["id"]
    for name in ("runWorkflow", "createRun"):
        [problem] = (
            await mutate(context, name, "run { id }", workflowId=workflow_id, versionId=version_id, draftRevision=1)
        )["errors"]
        assert [error["field"] for error in problem["errors"]] == ["input.versionId", "input.draftRevision"]
        assert all("versionId and draftRevision" in error["message"] for error in problem["errors"]), PROBLEM
