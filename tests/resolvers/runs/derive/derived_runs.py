"""Derived runs under the real executor, and node types that fail until they are repaired."""

import asyncio
from typing import Any

from engine.errors import NodeFailure
from engine.runtime.executor import RunExecutor
from engine.sdk.node import NodeContext, Output
from engine.states import RunStatus
from resolvers.context import Context
from tests.executor_worker import ExecutorWorker, TickConfig, TickNode
from tests.schema_client import mutate

RUN = "run { id status source statusMessage retryOf { id } forkedFrom { id } options { priority breakpoints } }"


class Flaky(TickNode):
    """Fails until it is repaired, and records its idempotency keys."""

    name = "flaky"

    def __init__(self) -> None:
        self.is_repaired, self.keys = False, list[str]()

    async def execute(self, config: TickConfig, ctx: NodeContext) -> Output:
        self.keys.append(ctx.idempotency_key)
        if not self.is_repaired:
            raise NodeFailure("TEST", "not yet")
        return await super().execute(config, ctx)


class QuickFlaky(Flaky):
    name = "quick_flaky"
    inline = True


FLAKY, QUICK_FLAKY = Flaky(), QuickFlaky()


async def execute(worker: ExecutorWorker, run_id: str) -> RunStatus | None:
    executor: RunExecutor = await worker.claim(run_id)
    return await asyncio.wait_for(executor.run(), 20)


async def derived(context: Context, mutation: str, **input: Any) -> Any:
    payload = await mutate(context, mutation, RUN, **input)
    assert payload["errors"] == [], payload["errors"]
    return payload["run"]


async def refused(context: Context, mutation: str, **input: Any) -> list[tuple[str, str]]:
    """Assert that the mutation creates no run, and return (field, code) of each problem."""
    before = await context.database.pool.fetchval("SELECT count(*) FROM runs")
    payload = await mutate(context, mutation, RUN, **input)
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == before
    [error] = payload["errors"]
    return [
        (problem["field"], problem["code"]) for problem in error.get("errors", [{"field": "", "code": error["code"]}])
    ]
