"""A whole Treadle as real processes, and a real client: what a user has in front of them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from tests.paths import ROOT

RUN = """
mutation ($input: RunAdhocInput!) {
  runAdhoc(input: $input) {
    run { id status output error { code message nodeId } attempt nodeStates { nodeId status visits output error { code } } }
    errors { code detail ... on ValidationProblem { errors { field code message nodeId } } }
  }
}
"""
READ = """
query ($id: ID!) {
  run(id: $id) {
    id status output progress attempt error { code message nodeId } lastSeq
    nodeStates { nodeId status visits attempt output partialOutput error { code message } }
    events(first: 1000) { nodes { seq __typename ... on NodeStateChanged { nodeState { nodeId status } } } }
  }
}
"""
STATES = """
subscription ($id: ID!, $after: Int) {
  nodeStates(runId: $id, after: $after) {
    seq snapshot runStatus progress nodeState { nodeId status visits output }
  }
}
"""
CANCEL = "mutation ($id: ID!) { cancelRun(input: {runId: $id}) { run { status } errors { code detail } } }"


@dataclass
class System:
    """One server and some workers on one database. Processes are ended by their own pid."""

    database_url: str
    redis_url: str
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    log: Path | None = None
    """Where all that the processes write goes; without one it is shown."""

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "TREADLE_DATABASE_URL": self.database_url,
            "TREADLE_REDIS_URL": self.redis_url,
            "TREADLE_PORT": str(self.port),
            "TREADLE_LOG_LEVEL": "warning",
            **self.settings,
        }
        command = [sys.executable, "-m", "app.cli", *arguments]
        with nullcontext() if self.log is None else self.log.open("ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def healthy(self) -> None:
        async with asyncio.timeout(90), httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    if (await client.get(f"http://127.0.0.1:{self.port}/health")).status_code == 200:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    async def ask(self, query: str, **variables: Any) -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            body = {"query": query, "variables": variables}
            answer = (await client.post(f"http://127.0.0.1:{self.port}/graphql", json=body)).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def run(self, spec: Any, inputs: Any = None, mode: str = "SYNC", **rest: Any) -> Any:
        """runAdhoc's payload."""
        given = {"spec": spec, "inputs": {} if inputs is None else inputs, "mode": mode, **rest}
        return (await self.ask(RUN, input=given))["runAdhoc"]

    async def read(self, run_id: str) -> Any:
        return (await self.ask(READ, id=run_id))["run"]

    async def holder(self, run_id: str) -> "subprocess.Popen[bytes]":
        """The worker process that holds the run."""
        connection = await asyncpg.connect(self.database_url)
        worker_id = await connection.fetchval("SELECT worker_id FROM runs WHERE id = $1", run_id)
        await connection.close()
        pid = int(worker_id.rsplit("-", 2)[1])
        return next(process for process in self.processes if process.pid == pid)

    async def states(self, run_id: str, after: int | None = None) -> AsyncIterator[Any]:
        """Updates of `nodeStates` until the run ends."""
        async for answer in self.follow(STATES, id=run_id, after=after):
            yield answer["nodeStates"]

    async def follow(self, subscription: str, **variables: Any) -> AsyncIterator[Any]:
        """The answers of a subscription, by a real WebSocket client."""
        transport = WebsocketsTransport(
            url=f"ws://127.0.0.1:{self.port}/graphql",
            subprotocols=["graphql-transport-ws"],
            connect_args={"proxy": None},
        )
        async with Client(transport=transport) as session:
            query = gql(subscription)
            query.variable_values = variables
            async for answer in session.subscribe(query):
                yield answer

    async def until(self, run_id: str, node_id: str, status: str) -> Any:
        """The first update that shows the node in that status."""
        async with asyncio.timeout(30):
            async for update in self.states(run_id):
                state = update["nodeState"]
                if state and (state["nodeId"], state["status"]) == (node_id, status):
                    return update
        raise AssertionError(f"{node_id} was never {status}")

    async def told(self, run_id: str, message: str) -> None:
        """Until a status change says that."""
        query = "subscription ($id: ID!) { runEvents(runId: $id) { seq ... on RunStatusChanged { message } } }"
        async with asyncio.timeout(30):
            async for event in self.follow(query, id=run_id):
                if event["runEvents"].get("message") == message:
                    return

    async def ended(self, run_id: str) -> Any:
        """The run, once it has ended."""
        async with asyncio.timeout(60):
            async for _ in self.states(run_id):
                continue
        return await self.read(run_id)


async def copied(template: str, name: str) -> str:
    """The URL of a new database that is a copy of the migrated one."""
    connection = await asyncpg.connect(template.replace("/treadle?", "/postgres?"))
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE treadle STRATEGY FILE_COPY")
    await connection.close()
    return template.replace("/treadle?", f"/{name}?")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(
    database_url: str, redis_url: str, workers: int = 1, log: Path | None = None, **settings: str
) -> AsyncIterator[System]:
    named = {f"TREADLE_{name.upper()}": value for name, value in settings.items()}
    system = System(database_url, redis_url, free_port(), named, log=log)
    try:
        system.start("server")
        for _ in range(workers):
            system.start("worker")
        await system.healthy()
        yield system
    finally:
        system.end()
