"""Alert rules over the API: all problems at once, defaults, changes, and the audit log."""

from typing import Any

from resolvers.context import Context
from tests.schema_client import call, mutate, new_workflow

FIELDS = """alertRule { id name metric threshold resolveThreshold windowS forS minRuns tags enabled state value
    workflows { id } project { id } }"""
LIST = "{ alertRules { id name } }"


async def test_all_problems_are_reported_at_once(context: Context) -> None:
    wrong: dict[str, Any] = {
        "name": " ",
        "metric": "FAILURE_RATE",
        "threshold": 1.5,
        "resolveThreshold": 1.7,
        "windowS": 59,
        "forS": -1,
        "minRuns": 0,
        "tags": [" "],
        "workflowIds": ["wf_unknown"],
    }
    payload = await mutate(context, "createAlertRule", FIELDS, **wrong)
    found = {(one["field"], one["code"]) for one in payload["errors"][0]["errors"]}
    assert found == {
        ("input.name", "LENGTH"),
        ("input.threshold", "OUT_OF_RANGE"),
        ("input.resolveThreshold", "OUT_OF_RANGE"),
        ("input.windowS", "OUT_OF_RANGE"),
        ("input.forS", "OUT_OF_RANGE"),
        ("input.minRuns", "OUT_OF_RANGE"),
        ("input.tags[0]", "FORMAT"),
        ("input.workflowIds[0]", "UNKNOWN"),
    }
    for metric, values, code in (("COST", {}, "REQUIRED"), ("NO_RUNS", {"threshold": 3.0}, "EXCLUSIVE")):
        payload = await mutate(context, "createAlertRule", FIELDS, name="n", metric=metric, **values)
        assert [(one["field"], one["code"]) for one in payload["errors"][0]["errors"]] == [("input.threshold", code)]


async def test_the_life_of_a_rule(context: Context, project: str) -> None:
    workflow_id = await new_workflow(context)
    made = (await mutate(context, "createAlertRule", FIELDS, name=" Cost ", metric="COST", threshold=2.5))["alertRule"]
    assert made == {
        "id": made["id"],
        "name": "Cost",
        "metric": "COST",
        "threshold": 2.5,
        "resolveThreshold": 2.5,
        "windowS": 300,
        "forS": 0,
        "minRuns": 1,
        "tags": [],
        "enabled": True,
        "state": "OK",
        "value": None,
        "workflows": [],
        "project": {"id": project},
    }
    unchanged = await mutate(context, "updateAlertRule", FIELDS, id=made["id"])
    assert unchanged["alertRule"] == made
    higher = (await mutate(context, "updateAlertRule", FIELDS, id=made["id"], threshold=4.0))["alertRule"]
    assert (higher["threshold"], higher["resolveThreshold"]) == (4.0, 4.0)
    both = {"resolveThreshold": 1.0, "workflowIds": [workflow_id], "tags": ["a", "a"], "windowS": 60}
    apart = (await mutate(context, "updateAlertRule", FIELDS, id=made["id"], **both))["alertRule"]
    assert (apart["resolveThreshold"], apart["workflows"], apart["tags"]) == (1.0, [{"id": workflow_id}], ["a"])
    kept = (await mutate(context, "updateAlertRule", FIELDS, id=made["id"], threshold=3.0))["alertRule"]
    assert (kept["threshold"], kept["resolveThreshold"]) == (3.0, 1.0)
    # The threshold of another metric does not apply.
    refused = await mutate(context, "updateAlertRule", FIELDS, id=made["id"], metric="QUEUE_AGE")
    assert [one["code"] for one in refused["errors"][0]["errors"]] == ["REQUIRED"]
    none = (await mutate(context, "updateAlertRule", FIELDS, id=made["id"], metric="NO_RUNS"))["alertRule"]
    assert (none["metric"], none["threshold"], none["resolveThreshold"]) == ("NO_RUNS", 0.0, 0.0)
    assert [one["id"] for one in (await call(context, LIST))["alertRules"]] == [made["id"]]
    entries = (await call(context, "{ auditLog(first: 10) { nodes { action before after } } }"))["auditLog"]["nodes"]
    changes = [one for one in entries if one["action"] == "updateAlertRule"]
    assert len(changes) == 4 and changes[0]["before"]["metric"] == "COST" and changes[0]["after"]["metric"] == "NO_RUNS"
    assert (await mutate(context, "deleteAlertRule", "deletedId", id=made["id"]))["deletedId"] == made["id"]
    assert (await call(context, LIST))["alertRules"] == []


async def test_a_project_has_a_limit(context: Context) -> None:
    for place in range(51):
        payload = await mutate(context, "createAlertRule", "alertRule { id }", name=f"r{place}", metric="NO_RUNS")
    assert payload["errors"][0]["code"] == "LIMIT"
    assert len((await call(context, LIST))["alertRules"]) == 50
