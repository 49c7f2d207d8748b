"""`Run.queueReason` says why a run waits for a worker, and `workers` lists the workers."""

from dataclasses import replace
from typing import Any

import pytest

from engine.states import RunStatus
from persistence.caller import Caller, Role
from persistence.db.database import dsn
from persistence.maintenance.presence import Presence
from persistence.maintenance.queue_facts import MOST_BEFORE, QueueFacts, QueueReasonCode
from persistence.queue.claims import claim_next
from resolvers.context import Context
from resolvers.policy import OperationPolicy
from resolvers.runs.queue_reasons import reason_of
from schema.schema import schema
from tests.schema_client import LINEAR, call, mutate, new_workflow

REASON = "query ($id: ID!) { run(id: $id) { status queueReason { code message runsBefore } } }"
WORKERS = "{ workers { id host pid startedAt seenAt runs } }"
FREE = QueueFacts(1, None, 0, 0, 0)


@pytest.mark.parametrize(
    ("facts", "project_limit", "code", "text"),
    [
        (replace(FREE, live_workers=0, limit=1, executing=1, before=3), 1, QueueReasonCode.NO_WORKER, "treadle worker"),
        (replace(FREE, limit=2, executing=2, before=3), 1, QueueReasonCode.CONCURRENCY_LIMIT, "allows 2"),
        (replace(FREE, executing_in_project=4), 4, QueueReasonCode.PROJECT_LIMIT, "TREADLE_PROJECT_LIMIT allows 4"),
        (replace(FREE, limit=2, executing=1, before=3), None, QueueReasonCode.BEHIND_OTHERS, "3 QUEUED runs"),
        (replace(FREE, before=MOST_BEFORE), 5, QueueReasonCode.BEHIND_OTHERS, "1000 or more QUEUED runs"),
        (replace(FREE, executing=7), None, QueueReasonCode.NEXT, "first in its queue"),
    ],
)
def test_the_first_reason_that_applies_is_given(
    facts: QueueFacts, project_limit: int | None, code: QueueReasonCode, text: str
) -> None:
    reason = reason_of(facts, project_limit)
    assert reason.code is code
    assert text in reason.message


async def start(context: Context, workflow_id: str) -> str:
    payload = await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id, inputs={"value": 1})
    assert payload["errors"] == []
    return str(payload["run"]["id"])


async def reason(context: Context, run_id: str) -> Any:
    return (await call(context, REASON, id=run_id))["run"]["queueReason"]


async def live_worker(context: Context, database_url: str) -> Presence:
    presence = Presence(dsn(database_url), context.database.pool, "wrk_1", 47, "host-a", 11)
    assert await presence.acquire()
    return presence


async def test_the_reason_follows_the_queue(context: Context, database_url: str) -> None:
    workflow_id = await new_workflow(context, {**LINEAR, "concurrency": {"limit": 1}})
    first, second = await start(context, workflow_id), await start(context, workflow_id)
    assert (await reason(context, first))["code"] == "NO_WORKER"
    presence = await live_worker(context, database_url)
    try:
        assert (await reason(context, first)) | {"message": ""} == {"code": "NEXT", "message": "", "runsBefore": 0}
        assert (await reason(context, second)) | {"message": ""} == {
            "code": "BEHIND_OTHERS",
            "message": "",
            "runsBefore": 1,
        }
        await claim_next(context.database.pool, "wrk_1", 60, 10)
        assert [one["runs"] for one in (await call(context, WORKERS))["workers"]] == [1]
        assert await reason(context, first) is None
        assert (await reason(context, second))["code"] == "CONCURRENCY_LIMIT"
        other = await start(context, await new_workflow(context))
        context.policy = OperationPolicy(project_limit=1)
        assert (await reason(context, other))["code"] == "PROJECT_LIMIT"
    finally:
        await presence.unregister()


async def test_only_a_queued_run_has_a_reason(context: Context) -> None:
    payload = await mutate(context, "createRun", "run { id status }", workflowId=await new_workflow(context))
    assert payload["run"]["status"] == RunStatus.PENDING
    assert await reason(context, payload["run"]["id"]) is None


async def test_the_live_workers_are_listed_for_admins_of_the_installation(
    context: Context, database_url: str, project: str
) -> None:
    assert (await call(context, WORKERS))["workers"] == []
    presence = await live_worker(context, database_url)
    try:
        [listed] = (await call(context, WORKERS))["workers"]
        assert (listed["id"], listed["host"], listed["pid"], listed["runs"]) == ("wrk_1", "host-a", 11, 0)
        assert listed["startedAt"] is not None
        context.caller = Caller("editor", {project: Role.ADMIN})
        result = await schema.execute(WORKERS, context_value=context)
        assert result.data == {"workers": None}
        assert [(error.extensions or {})["code"] for error in result.errors or []] == ["FORBIDDEN"]
    finally:
        await presence.unregister()
