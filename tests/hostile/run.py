"""Runs the attacks against a running instance, and prints how long others waited (`make hostile`).

It starts stores, a server and a worker of its own on loopback, and ends them.
"""

import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg
import httpx

from app.embedded.servers import servers
from persistence.db.migrate import migrate
from tests.end_to_end.support.system import SystemUnderTest, running
from tests.hostile.clients import CLIENT_ATTACKS
from tests.hostile.peers import answer_falsely
from tests.hostile.turns import ATTACKS, LIGHT_RUN, RUN
from tests.peers.http import http_peer

OTHER = "prj_00000000000000000000000001"
PAUSE_S = 0.02
"""Seconds between two probes of one kind."""
LIMIT_S = 0.25
"""The longest time that a probe may wait."""
Probe = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack did: the longest wait of each probe in seconds, and what was refused."""

    waits: dict[str, float]
    refused: str


class AttackedInstance:
    """A running instance with a second project, and its probes."""

    def __init__(self, system: SystemUnderTest, client: httpx.AsyncClient) -> None:
        self.port, self._client = system.port, client
        self.probes: dict[str, Probe] = {
            "/health": self._health,
            "__typename": partial(self._operation, "{ __typename }"),
            "other run": self._other_run,
        }

    async def execute(self, query: str, **variables: Any) -> Mapping[str, Any]:
        response = await self._client.post("/graphql", json={"query": query, "variables": variables})
        answer: Mapping[str, Any] = response.json()
        return answer

    async def _health(self) -> None:
        assert (await self._client.get("/health")).status_code == 200

    async def _operation(self, query: str, **variables: Any) -> None:
        # A caller on another address: the proxy on this host names it.
        headers = {"x-forwarded-for": "192.0.2.1"}
        body = {"query": query, "variables": variables}
        response = await self._client.post("/graphql", json=body, headers=headers)
        assert response.status_code in (200, 429), response.text

    async def _other_run(self) -> None:
        await self._operation(RUN, input={"spec": LIGHT_RUN, "mode": "SYNC", "projectId": OTHER})

    async def attack(self, attack: Awaitable[object]) -> Outcome:
        """Await an attack, while every probe is repeated."""
        task = asyncio.ensure_future(attack)
        waits = await asyncio.gather(*(self._longest(probe, task) for probe in self.probes.values()))
        return Outcome(dict(zip(self.probes, waits, strict=True)), summary(await task))

    async def _longest(self, probe: Probe, task: "asyncio.Future[object]") -> float:
        worst_s = 0.0
        while not task.done():
            started_at = perf_counter()
            await probe()
            worst_s = max(worst_s, perf_counter() - started_at)
            await asyncio.wait({task}, timeout=PAUSE_S)
        return worst_s


def summary(result: object) -> str:
    """Return what was refused and how often: error codes, HTTP statuses and close codes."""
    counts: Counter[str] = result if isinstance(result, Counter) else Counter(_codes(result))
    return ", ".join(f"{count} × {name}" for name, count in sorted(counts.items())) or "nothing"


def _codes(value: object) -> list[str]:
    if isinstance(value, Mapping):
        own = [value["code"]] if isinstance(value.get("code"), str) else []
        return own + [code for inner in value.values() for code in _codes(inner)]
    return [code for inner in value for code in _codes(inner)] if isinstance(value, list | tuple) else []


@asynccontextmanager
async def target(database_url: str, redis_url: str, **settings: str) -> AsyncIterator[AttackedInstance]:
    """Start a server and a worker with a second project, and a client of them."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO projects (id, name) VALUES ($1, 'other') ON CONFLICT DO NOTHING", OTHER)
    await connection.close()
    async with running(database_url, redis_url, http_allow="127.0.0.1", **settings) as system:
        limits = httpx.Limits(max_connections=200)
        address = f"http://127.0.0.1:{system.port}"
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=120, limits=limits) as client:
            one = AttackedInstance(system, client)
            for probe in one.probes.values():
                await probe()
            yield one


async def _main() -> bool:
    """Print the table. Returns whether every probe was within its limit."""
    is_good = True
    with tempfile.TemporaryDirectory(prefix="treadle-hostile-") as folder:
        os.chmod(folder, 0o711)
        os.environ["TREADLE_DATA_DIR"] = folder
        with servers(Path(folder), durable=False) as urls:
            await migrate(urls[0])
            async with target(*urls, log_level="error") as one, http_peer() as peer:
                attacks = {name: attack(one.execute) for name, attack in ATTACKS.items()}
                attacks["answer_falsely"] = answer_falsely(one.execute, peer.url)
                attacks |= {name: attack(one.port) for name, attack in CLIENT_ATTACKS.items()}
                _write("attack".ljust(30), *(name.rjust(12) for name in one.probes), " refused")
                for name, attack in attacks.items():
                    outcome = await one.attack(attack)
                    is_good = is_good and max(outcome.waits.values()) <= LIMIT_S
                    waits = (f"{wait_s * 1000:.0f} ms".rjust(12) for wait_s in outcome.waits.values())
                    _write(name.ljust(30), *waits, f" {outcome.refused}")
    return is_good


def _write(*cells: str) -> None:
    sys.stdout.write(" ".join(cells) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(_main()) else f"a probe waited for more than {LIMIT_S * 1000:.0f} ms")
