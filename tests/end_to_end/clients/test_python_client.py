"""`treadle.client` with a real server: operations, problems, and tokens that expire."""

import asyncio
import time
from typing import Any

import jwt
import pytest

from app.settings import Settings
from tests.app_server import serving
from tests.end_to_end.support.interruptions import SPEC
from tests.end_to_end.support.system import SystemUnderTest
from treadle.client import (
    AsyncClient,
    Client,
    ConflictProblemError,
    InvalidStateProblemError,
    NotFoundProblemError,
    RunFailedError,
    RunStatus,
    RunUpdateData,
    ValidationProblemError,
)
from treadle.client.aio import AsyncToken
from treadle.client.run_watch import NUMBERED

LINEAR: dict[str, Any] = {
    "nodes": [{"id": "a", "type": "transform", "config": {"output": "{{ input.x }}"}}],
    "edges": [],
}
FAILING: dict[str, Any] = {"nodes": [{"id": "a", "type": "code", "config": {"code": "def process():\n    1 / 0"}}]}


def numbers(updates: list[RunUpdateData]) -> list[int]:
    """Return the number of the first snapshot, and of each numbered event."""
    return [update.seq for update in updates if update.typename in (*NUMBERED, "RunSnapshot")]


async def watch_async(url: str, run_id: str, after: int | None, token: AsyncToken = None) -> list[RunUpdateData]:
    async with AsyncClient(url, token=token) as client:
        return [update async for update in client.watch_run(run_id, after=after)]


async def test_a_watch_continues_with_a_new_token_when_the_last_one_expires(database_url: str, redis_url: str) -> None:
    secret, tokens, has_third = "a secret of at least thirty-two characters", set[str](), asyncio.Event()

    def token() -> str:
        # Valid for less than a second.
        claims = {"sub": "ada", "exp": int(time.time()) + 1, "treadle": {"*": "admin"}}
        tokens.add(jwt.encode(claims, secret, "HS256"))
        if len(tokens) == 3:
            has_third.set()
        return jwt.encode(claims, secret, "HS256")

    settings = Settings(database_url=database_url, redis_url=redis_url, jwt_secret=secret)
    async with serving(settings) as address, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        url = f"http://{address}/graphql"
        async with AsyncClient(url, token=token) as client:
            run = await client.run_adhoc(SPEC)
            watch = tasks.create_task(watch_async(url, run.id, 1, token))
            await has_third.wait()
            cancelled = await client.cancel_run(run.id)
            assert numbers(await watch) == list(range(2, cancelled.last_seq + 1))


async def test_operations_return_values_and_problems_are_errors(system: SystemUnderTest) -> None:
    url = f"http://127.0.0.1:{system.port}/graphql"
    async with AsyncClient(url) as client:
        workflow = await client.create_workflow("By the client", spec=LINEAR)
        draft = await client.save_draft(workflow.id, LINEAR, expected_revision=workflow.draft.revision)
        with pytest.raises(ConflictProblemError) as conflict:
            await client.save_draft(workflow.id, FAILING, expected_revision=draft.revision + 5)
        assert conflict.value.draft is not None
        assert conflict.value.current_revision == conflict.value.draft.revision
        version = await client.create_version(workflow.id, publish=True)
        run = await client.run_and_wait(workflow.id, {"x": 5}, options={"tags": ["client"]})
        assert (run.status, run.output, run.version.number) == (RunStatus.COMPLETED, {"a": 5}, version.number)
        assert run.raise_for_status() is run
        assert [one.id for one in (await client.runs({"workflowId": workflow.id})).nodes] == [run.id]
        with pytest.raises(InvalidStateProblemError) as state:
            await client.cancel_run(run.id)
        assert state.value.run_status == "COMPLETED"
        with pytest.raises(NotFoundProblemError) as missing:
            await client.run_workflow("wf_01h455vb4pex5vsknk084sn02q")
        assert missing.value.resource_id == "wf_01h455vb4pex5vsknk084sn02q"
        with pytest.raises(ValidationProblemError) as invalid:
            await client.run_adhoc({"nodes": [{"id": "a", "type": "nothing_like_it"}]})
        assert [one.field for one in invalid.value.errors] == ["nodes[0].type"]
        failed = await client.run_and_wait(spec=FAILING)
        with pytest.raises(RunFailedError, match="is FAILED: CODE"):
            failed.raise_for_status()
        assert await client.run("run_01h455vb4pex5vsknk084sn02q") is None
        assert await client.delete_workflow(workflow.id) == workflow.id


async def test_the_same_key_starts_one_run(system: SystemUnderTest) -> None:
    def start() -> set[str]:
        with Client(f"http://127.0.0.1:{system.port}/graphql") as client:
            return {client.run_adhoc(LINEAR, {"x": 1}, idempotency_key="once").id for _ in range(3)}

    assert len(await asyncio.to_thread(start)) == 1
