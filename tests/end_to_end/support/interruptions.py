"""A run whose server and Redis are killed while clients watch it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.embedded.process import StoreProcess
from app.embedded.process import running as running_store
from app.embedded.servers import redis_store
from tests.end_to_end.support.system import SystemUnderTest, running
from treadle.client import AsyncClient, RunView

QUESTIONS = ("first", "second")
SPEC: dict[str, Any] = {
    "nodes": [{"id": name, "type": "human", "config": {"prompt": f"The {name}?"}} for name in QUESTIONS],
    "edges": [{"source": "first", "target": "second"}],
}
EVENTS = "query ($id: ID!) { run(id: $id) { lastSeq events(first: 1000) { nodes { seq __typename } } } }"


@dataclass
class FragileSystem:
    """A system whose Redis belongs to the test."""

    system: SystemUnderTest
    redis: StoreProcess

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.system.port}/graphql"

    async def kill_server(self) -> None:
        server = self.system.processes[0]
        server.send_signal(signal.SIGKILL)
        await asyncio.to_thread(server.wait)

    def start_server(self) -> None:
        self.system.processes.insert(0, self.system.start("server"))
        self.system.processes.pop()


@asynccontextmanager
async def fragile_system(database_url: str, folder: Path) -> AsyncIterator[FragileSystem]:
    """Run a server, a worker and a Redis of their own for the duration of the block."""
    os.chmod(folder, 0o711)
    with redis_store(folder) as redis, running_store(redis):
        async with running(database_url, redis.url) as system:
            yield FragileSystem(system, redis)


async def interrupt(fragile: FragileSystem, run_id: str) -> list[int]:
    """Answer the questions of a run, and kill the server and Redis before the answers. Return the numbers of its events.

    Each answer is sent while the killed process is away, and the client repeats it until it is accepted.
    """
    async with AsyncClient(fragile.url) as client:
        for question in QUESTIONS:
            wait_id = await _wait_of(client, run_id, question)
            if question == "second":
                await asyncio.to_thread(fragile.redis.kill)
                answer = asyncio.create_task(client.resume_run(run_id, wait_id=wait_id, answer=question))
                await fragile.redis.relaunch()
            else:
                await fragile.kill_server()
                answer = asyncio.create_task(client.resume_run(run_id, wait_id=wait_id, answer=question))
                fragile.start_server()
            await answer
        await client.wait_for_run(run_id)
        run = (await client.execute(EVENTS, {"id": run_id}))["run"]
    seqs = [event["seq"] for event in run["events"]["nodes"]]
    assert seqs == list(range(1, run["lastSeq"] + 1))
    return seqs


async def _wait_of(client: AsyncClient, run_id: str, node_id: str) -> str:
    """Wait until a node asks its question, and return the id of the wait."""
    view = RunView()
    async for update in client.watch_run(run_id):
        view.apply(update)
        if view.nodes[node_id].status == "WAITING":
            break
    for wait in await client.waits(run_id) or []:
        if wait.node_id == node_id and wait.wait_id:
            return wait.wait_id
    raise AssertionError(f"{node_id} has no wait")


async def started(url: str) -> str:
    """Start the run, and return its id."""
    async with AsyncClient(url) as client:
        return (await client.run_adhoc(SPEC)).id
