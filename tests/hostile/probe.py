"""Measures how long others wait: `python -m tests.hostile.probe ADDRESS TOKEN PROJECT PID…`.

It is a process of its own, so that the work of an attacker is not in its figures. A line `start` on
its standard input starts all probes. A line `stop` ends them after the operations in progress, and
writes one JSON object: for each probe the seconds of all its operations, and the failures. Of the seconds of an
operation, it also counts those in which this process, or the main thread of a process PID, was ready to run
and had no core. The kernel counts them (`schedstat` of proc(5)).
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

RUN = "mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) { run { status } errors { code detail } } }"
LIGHT_NODE = {"id": "a", "type": "transform", "config": {"output": "{{ 1 + 1 }}"}}
CODE = "def process():\n    total = 0\n    for i in range(600_000):\n        total += i\n    return total"
"""Takes some tenths of a second, so that the start of a sandbox is a small part of it."""
CODE_NODE = {"id": "a", "type": "code", "config": {"code": CODE}}
PAUSE_S = {"health": 0.02, "typename": 0.02, "run": 0.02, "code": 0.5}
"""Seconds between two operations of one probe. The code takes most of a core, so it is rare."""
ADDRESS = "192.0.2.1"
"""The address of the caller, which a proxy on this host tells."""


class ProbeFailed(Exception):
    """The operation of a probe had another answer than it should have."""


class VictimProbes:
    """The probes of one caller, as long as they run."""

    def __init__(self, client: httpx.AsyncClient, project_id: str, processes: Sequence[str]) -> None:
        self._client, self._project_id, self._processes = client, project_id, processes
        self._is_over = asyncio.Event()
        self.waits: dict[str, list[float]] = {}
        self.core_waits: dict[str, list[float]] = {}
        self.failures: list[str] = []

    def operations(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "health": self._health,
            "typename": self._typename,
            "run": partial(self._run, LIGHT_NODE),
            "code": partial(self._run, CODE_NODE),
        }

    def stop(self) -> None:
        self._is_over.set()

    async def repeat(self, name: str, operation: Callable[[], Awaitable[None]]) -> None:
        """Repeat an operation until the stop, at least once."""
        waits, core_waits = self.waits.setdefault(name, []), self.core_waits.setdefault(name, [])
        while not waits or not self._is_over.is_set():
            started_at, without_core_s = perf_counter(), self._seconds_without_core()
            try:
                await operation()
            except (ProbeFailed, httpx.HTTPError) as error:
                self.failures.append(f"{name}: {error!r}"[:300])
            waits.append(perf_counter() - started_at)
            core_waits.append(self._seconds_without_core() - without_core_s)
            stopping = asyncio.ensure_future(self._is_over.wait())
            await asyncio.wait({stopping}, timeout=PAUSE_S[name])
            stopping.cancel()

    def _seconds_without_core(self) -> float:
        """Return for how long the processes of an operation have been ready without a core since their start."""
        fields = (Path(f"/proc/{pid}/schedstat").read_text().split() for pid in ("self", *self._processes))
        return sum(int(waited_ns) for _, waited_ns, _ in fields) / 1e9

    async def _health(self) -> None:
        response = await self._client.get("/health")
        if response.status_code != 200:
            raise ProbeFailed(response.text)

    async def _typename(self) -> None:
        if await self._data("{ __typename }") != {"__typename": "Query"}:
            raise ProbeFailed("another type")

    async def _run(self, node: dict[str, Any]) -> None:
        spec = {"nodes": [node], "edges": []}
        input = {"spec": spec, "mode": "SYNC", "timeoutMs": 60_000, "projectId": self._project_id}
        payload = (await self._data(RUN, input=input))["runAdhoc"]
        if payload["errors"] or payload["run"]["status"] != "COMPLETED":
            raise ProbeFailed(str(payload))

    async def _data(self, query: str, **variables: Any) -> Any:
        response = await self._client.post("/graphql", json={"query": query, "variables": variables})
        body = response.json()
        if response.status_code != 200 or "errors" in body:
            raise ProbeFailed(response.text)
        return body["data"]


async def _main(address: str, token: str, project_id: str, *processes: str) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    headers = {"authorization": f"Bearer {token}", "x-forwarded-for": ADDRESS}
    async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=120) as client:
        while await lines.readline():  # start
            probes = VictimProbes(client, project_id, processes)
            tasks = [asyncio.create_task(probes.repeat(*item)) for item in probes.operations().items()]
            await lines.readline()  # stop
            probes.stop()
            await asyncio.gather(*tasks)
            report = {"waits": probes.waits, "core_waits": probes.core_waits, "failures": probes.failures}
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
