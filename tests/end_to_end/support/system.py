"""The system under test: a server and workers as real processes, with a real client."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
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
class SystemUnderTest:
    """One server and some workers on one database, and a client of the API.

    Attributes:
        settings: Environment variables of the processes.
        log: The file for the output of all processes; None passes it on to the output of the test.
    """

    database_url: str
    redis_url: str
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    log: Path | None = None

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start `treadle` with these arguments."""
        environment = {
            **os.environ,
            "TREADLE_DATABASE_URL": self.database_url,
            "TREADLE_REDIS_URL": self.redis_url,
            "TREADLE_PORT": str(self.port),
            "TREADLE_LOG_LEVEL": "warning",
            "TREADLE_CATALOG_FILE": os.devnull,  # Not the treadle.toml of the person who runs the tests.
            **self.settings,
        }
        command = [sys.executable, "-m", "app.cli", *arguments]
        with nullcontext() if self.log is None else self.log.open("ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Stop all processes with SIGTERM, and kill those that do not end."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def wait_until_healthy(self) -> None:
        """Wait until the server responds, or has ended."""
        async with asyncio.timeout(180), httpx.AsyncClient(trust_env=False) as client:
            while True:
                ends = [process.poll() for process in self.processes if "server" in process.args]
                assert not ends or None in ends, f"the server has ended with {ends}"
                with suppress(httpx.TransportError):
                    if (await client.get(f"http://127.0.0.1:{self.port}/health")).status_code == 200:
                        return
                await asyncio.sleep(0.05)  # A process that starts sends no signal.

    async def execute(self, query: str, **variables: Any) -> Any:
        """Execute an operation that has no errors, and return its `data`."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            body = {"query": query, "variables": variables}
            response = (await client.post(f"http://127.0.0.1:{self.port}/graphql", json=body)).json()
        assert "errors" not in response, response["errors"]
        return response["data"]

    async def run(self, spec: Any, inputs: Any = None, mode: str = "SYNC", **options: Any) -> Any:
        """Run a spec, and return the payload of `runAdhoc`."""
        arguments = {"spec": spec, "inputs": {} if inputs is None else inputs, "mode": mode, **options}
        return (await self.execute(RUN, input=arguments))["runAdhoc"]

    async def read(self, run_id: str) -> Any:
        return (await self.execute(READ, id=run_id))["run"]

    async def worker_of(self, run_id: str) -> "subprocess.Popen[bytes]":
        """Return the worker process that holds the run."""
        connection = await asyncpg.connect(self.database_url)
        worker_id = await connection.fetchval("SELECT worker_id FROM runs WHERE id = $1", run_id)
        await connection.close()
        pid = int(worker_id.rsplit("-", 2)[1])
        return next(process for process in self.processes if process.pid == pid)

    async def node_states(self, run_id: str, after: int | None = None) -> AsyncIterator[Any]:
        """Yield updates of `nodeStates` until the run ends."""
        async for data in self.subscribe(STATES, id=run_id, after=after):
            yield data["nodeStates"]

    async def subscribe(self, subscription: str, **variables: Any) -> AsyncIterator[Any]:
        """Yield the `data` of each message of a subscription, by a real WebSocket client."""
        transport = WebsocketsTransport(
            url=f"ws://127.0.0.1:{self.port}/graphql",
            subprotocols=["graphql-transport-ws"],
            connect_args={"proxy": None},
        )
        async with Client(transport=transport) as session:
            query = gql(subscription)
            query.variable_values = variables
            async for data in session.subscribe(query):
                yield data

    async def wait_for_node(self, run_id: str, node_id: str, status: str) -> Any:
        """Wait until a node has a status, and return the update with it."""
        async with asyncio.timeout(120):
            async for update in self.node_states(run_id):
                state = update["nodeState"]
                if state and (state["nodeId"], state["status"]) == (node_id, status):
                    return update
        raise AssertionError(f"{node_id} was never {status}")

    async def wait_for_message(self, run_id: str, message: str) -> None:
        """Wait until a change of the run's status has this message."""
        query = "subscription ($id: ID!) { runEvents(runId: $id) { seq ... on RunStatusChanged { message } } }"
        async with asyncio.timeout(120):
            async for event in self.subscribe(query, id=run_id):
                if event["runEvents"].get("message") == message:
                    return

    async def wait_for_end(self, run_id: str) -> Any:
        """Wait until the run has ended, and return it."""
        async with asyncio.timeout(120):
            async for _ in self.node_states(run_id):
                continue
        return await self.read(run_id)


async def copy_database(template: str, name: str) -> str:
    """Create a copy of the migrated database, and return its URL."""
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
) -> AsyncIterator[SystemUnderTest]:
    """Run a server and workers for the duration of the block.

    Args:
        settings: Settings by field name.
    """
    variables = {f"TREADLE_{name.upper()}": value for name, value in settings.items()}
    system = SystemUnderTest(database_url, redis_url, free_port(), variables, log=log)
    try:
        system.start("server")
        for _ in range(workers):
            system.start("worker")
        await system.wait_until_healthy()
        yield system
    finally:
        system.stop()
