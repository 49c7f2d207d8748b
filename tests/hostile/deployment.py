"""The deployment that is attacked: a server and a worker as real processes, with sign-in.

The attacker is an editor of the default project. The others use another project, from another
address, and are measured in a process of their own (tests/hostile/probe.py).
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import jwt

from tests.end_to_end.support.system import SystemUnderTest, running
from tests.hostile.report import AttackResult, AttackRow, Block, Blocks, ProbeWaits
from tests.paths import PEERS, ROOT
from tests.peers import chat
from tests.peers.http import http_peer
from tests.peers.http_protocol import Peer

SECRET = "a secret of the hostile tests, which signs the tokens"
OWN, OTHER = "prj_00000000000000000000000000", "prj_00000000000000000000000001"
QUEUE_LIMIT = 100
"""Runs of one project that may be queued. The default would need hours to be reached."""
UNDISTURBED_S = 5.0
"""Seconds for which the probes run without an attack, to know their own times."""


def token(subject: str, roles: Mapping[str, str]) -> str:
    claims = {"sub": subject, "exp": int(time.time()) + 3600, "treadle": dict(roles)}
    return jwt.encode(claims, SECRET, "HS256")


class ProbeProcess:
    """The process that measures how long others wait."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def during(self, attack: Awaitable[Any]) -> tuple[Any, ProbeWaits]:
        """Await an attack, while every probe is repeated. Returns its result and the waits."""
        await self._send("start")
        try:
            result = await attack
        finally:
            await self._send("stop")
        assert self._process.stdout is not None
        report = json.loads(await self._process.stdout.readline())
        return result, ProbeWaits(report["waits"], report["failures"], report["core_waits"])

    async def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()


@asynccontextmanager
async def probe_process(port: int, pids: Iterable[int]) -> AsyncIterator[ProbeProcess]:
    arguments = (f"http://127.0.0.1:{port}", token("other", {OTHER: "editor"}), OTHER, *map(str, pids))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.hostile.probe",
        *arguments,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,
    )
    try:
        yield ProbeProcess(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # The process ends with its input.
        await process.wait()


@dataclass
class AttackedDeployment:
    """The deployment, and clients of it.

    Attributes:
        attacker: The HTTP client of the attacker.
        peer: The attacker's HTTP server, model endpoint and MCP server.
        folder: The data folder of the deployment.
        monitor: The folder in which the processes record what blocked their event loops.
        own_code_s: How long the code of the other project takes at most when nobody attacks, in seconds.
    """

    system: SystemUnderTest
    attacker: httpx.AsyncClient
    peer: Peer
    probes: ProbeProcess
    folder: Path
    monitor: Path
    own_code_s: float = 0.0

    @property
    def port(self) -> int:
        return self.system.port

    @property
    def log(self) -> str:
        """What the processes have written to their log so far."""
        assert self.system.log is not None
        return self.system.log.read_text("utf-8", "replace")

    async def execute(self, query: str, **variables: Any) -> Mapping[str, Any]:
        """Execute an operation as the attacker. Returns the whole response."""
        return await self.execute_as(self.headers("attacker", {OWN: "editor"}), query, **variables)

    async def execute_as(self, headers: Mapping[str, str], query: str, **variables: Any) -> Mapping[str, Any]:
        body = {"query": query, "variables": variables}
        response = await self.attacker.post("/graphql", json=body, headers=dict(headers))
        answer: Mapping[str, Any] = response.json()
        return answer

    def headers(self, subject: str = "attacker", roles: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {token(subject, roles or {OWN: 'editor'})}"}

    async def measure_own_times(self) -> AttackRow:
        """Run the probes without an attack, so that the row of each attack has its bound."""
        began = time.monotonic()
        _, waits = await self.probes.during(asyncio.sleep(UNDISTURBED_S))
        self.own_code_s = waits.longest("code")
        return AttackRow("(none)", AttackResult(), waits, self._blocks(began), self.own_code_s)

    async def row(self, name: str, attack: Awaitable[AttackResult]) -> AttackRow:
        """Await an attack, and return its row of the table."""
        began = time.monotonic()
        result, waits = await self.probes.during(attack)
        return AttackRow(name, result, waits, self._blocks(began), self.own_code_s)

    def _blocks(self, since: float) -> Blocks:
        """Return what loop_monitor/sitecustomize.py has recorded, since a time of the monotonic clock."""
        pids = zip(("server", "worker"), (process.pid for process in self.system.processes), strict=False)
        return Blocks({name: _recorded(self.monitor / str(pid), since) for name, pid in pids})


@asynccontextmanager
async def deployment(
    database_url: str, redis_url: str, folder: Path, **settings: str
) -> AsyncIterator[AttackedDeployment]:
    """Start a server and a worker with two projects, the attacker's peer, and the probes."""
    shop_url = await _create_projects(database_url)
    data, monitor = folder / "data", folder / "monitor"
    async with http_peer() as peer:
        catalog = folder / "treadle.toml"
        catalog.write_text(_catalog(peer, shop_url))
        settings = {
            "http_allow": "127.0.0.1",
            "jwt_secret": SECRET,
            "catalog_file": str(catalog),
            "data_dir": str(data),
            "models": json.dumps([_model(name, peer) for name in chat.MODELS]),
            "project_queue_limit": str(QUEUE_LIMIT),
            "log_level": "info",
            **settings,
        }
        async with (
            running(database_url, redis_url, log=folder / "treadle.log", **settings) as system,
            _attacker(system.port) as attacker,
            probe_process(system.port, [process.pid for process in system.processes]) as probes,
        ):
            yield AttackedDeployment(system, attacker, peer, probes, data, monitor)


def _recorded(file: Path, since: float) -> list[Block]:
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else []
    return [
        Block(line["s"], line["process_s"], line["places"][-1][::-1] if line["places"] else [])
        for line in lines
        if line["at"] >= since
    ]


@asynccontextmanager
async def _attacker(port: int) -> AsyncIterator[httpx.AsyncClient]:
    address = f"http://127.0.0.1:{port}"
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=120, limits=limits) as client:
        yield client


async def _create_projects(database_url: str) -> str:
    """Create the other project, and a database with a role that may only read.

    Returns:
        The URL of that database.
    """
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO projects (id, name) VALUES ($1, 'other') ON CONFLICT DO NOTHING", OTHER)
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'authors'"):
        await connection.execute("CREATE ROLE authors LOGIN NOSUPERUSER; CREATE ROLE victims; GRANT victims TO authors")
    await connection.close()
    parts = urlsplit(database_url)
    return parts._replace(netloc=f"authors@{parts.netloc.rpartition('@')[2]}").geturl()


def _model(name: str, peer: Peer) -> dict[str, Any]:
    return {"name": name, "base_url": f"{peer.url}/v1", "check": False, "api_key": "none", "timeout_s": 2}


def _catalog(peer: Peer, shop_url: str) -> str:
    command = [str(PEERS / "mcp_server.py"), "stdio"]
    return (
        f"[mcp.desk]\ncommand = {json.dumps(sys.executable)}\nargs = {json.dumps(['-P', *command])}\n"
        f'[mcp.liar]\nurl = "{peer.url}/mcp"\ntimeout_s = 2\n'
        f'[mcp.guarded]\nurl = "{peer.url}/mcp"\nrequired_scopes = ["admin"]\n'
        f"[sql.shop]\nurl = {json.dumps(shop_url)}\nrequired_scopes = []\n"
        f"[sql.guarded]\nurl = {json.dumps(shop_url)}\n"
    )
