"""A steady load: mixed workflows started at an even pace, and clients that answer, cancel, pause, rewind and step them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from app.chaos.client import ChaosClient, NoResponse
from app.chaos.workflows import ANSWER, Act, ChaosCase, child, draw
from engine.states import TERMINAL

STANDS = """
query ($id: ID!) { run(id: $id) {
  status waits { ... on InputWait { waitId } } checkpoints(first: 50) { nodes { id } }
} }
"""
CREATE = """
mutation ($spec: JSON!) { createWorkflow(input: {name: "A child", spec: $spec}) { workflow { id } errors { detail } } }
"""
CHILDREN = "query ($id: ID!) { run(id: $id) { derivedRuns(source: [SUBWORKFLOW], first: 50) { nodes { status } } } }"
LOOK_S = 0.4
DOUBLED = 0.1
"""The part of the starts that two callers make at the same moment with the same key."""


@dataclass(slots=True)
class Started:
    """A run that the server has answered with. `ended` is set by whoever sees its last event."""

    run_id: str
    case: ChaosCase
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Load:
    """`started` by run id. `told_apart` counts keys that two callers got different runs for, which must be none."""

    def __init__(
        self, client: ChaosClient, rng: Random, per_s: float, at_once: int, follow: Callable[[Started], None]
    ) -> None:
        self._client, self._rng, self._per_s, self._follow = client, rng, per_s, follow
        self._room = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self.started: dict[str, Started] = {}
        self.told_apart = 0
        self.refused: list[str] = []
        self._child = ""

    async def prepare(self) -> None:
        """The workflow that others run. Before the faults: its creation has no key, and must not be asked for twice."""
        made = (await self._client.ask(CREATE, spec=child()))["createWorkflow"]
        if made["errors"]:
            raise ValueError(made["errors"])
        self._child = made["workflow"]["id"]

    async def run(self) -> None:
        """Starts runs until cancelled; those under way go on."""
        while True:
            await self._room.acquire()
            task = asyncio.create_task(self._one(draw(self._rng), Random(self._rng.getrandbits(64))))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            await asyncio.sleep(self._rng.expovariate(self._per_s))

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    async def settled(self, within_s: float) -> None:
        """Until every run has ended and every client is content, or the time is up."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled() and (fault := task.exception()) is not None:
            self.refused.append(repr(fault))

    async def _one(self, case: ChaosCase, rng: Random) -> None:
        try:
            run_id = await self._start(case, rng)
            if run_id is None:
                return
            started = self.started[run_id] = Started(run_id, case)
            self._follow(started)
            await _ACTS[case.act](self, started, rng)
            await started.ended.wait()
            await self._children_over(started)
        except NoResponse:
            return  # counted by the client

    async def _start(self, case: ChaosCase, rng: Random) -> str | None:
        inputs = {**(case.inputs or {}), "child": self._child}
        given = {"spec": case.spec, "inputs": inputs, "idempotencyKey": self._client.new_key()}
        callers = 2 if rng.random() < DOUBLED else 1
        payloads = await asyncio.gather(
            *(self._client.mutate("runAdhoc", "run { id }", **given) for _ in range(callers))
        )
        for payload in payloads:
            if payload["errors"]:
                self.refused.append(f"{case.name}: {payload['errors']}")
                return None
        ids = {payload["run"]["id"] for payload in payloads}
        self.told_apart += len(ids) - 1
        return str(ids.pop())

    # What clients do.

    async def _nothing(self, started: Started, rng: Random) -> None:
        return

    async def _cancel(self, started: Started, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0, 7))
        await self._client.mutate("cancelRun", "run { status }", runId=started.run_id)

    async def _answer(self, started: Started, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.2, 4))
        while not started.ended.is_set():
            for wait in (await self._stands(started))["waits"]:
                if "waitId" in wait:
                    answer = {"waitId": wait["waitId"], "answer": ANSWER}
                    await self._client.mutate("resumeRun", "run { status }", runId=started.run_id, **answer)
            await asyncio.sleep(LOOK_S)

    async def _pause(self, started: Started, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.1, 1))
        await self._client.mutate("pauseRun", "run { status }", runId=started.run_id)
        await asyncio.sleep(rng.uniform(0, 2))
        await self._resumed(started)

    async def _rewind(self, started: Started, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.3, 1.5))
        await self._client.mutate("pauseRun", "run { status }", runId=started.run_id)
        stands = await self._until_paused(started)
        if stands and (checkpoints := stands["checkpoints"]["nodes"]):
            chosen = rng.choice(checkpoints)["id"]
            await self._client.mutate("resumeRun", "run { status }", runId=started.run_id, checkpointId=chosen)
        await self._resumed(started)

    async def _step(self, started: Started, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.1, 0.6))
        await self._client.mutate("pauseRun", "run { status }", runId=started.run_id)
        for _ in range(3):
            if await self._until_paused(started):
                await self._client.mutate("stepRun", "run { status }", runId=started.run_id)
        await self._resumed(started)

    async def _until_paused(self, started: Started) -> dict[str, Any] | None:
        """How the run stands once it is PAUSED; None if it has ended instead."""
        while not started.ended.is_set():
            stands = await self._stands(started)
            if stands["status"] == "PAUSED":
                return stands
            if stands["status"] in TERMINAL:
                return None
            await asyncio.sleep(LOOK_S)
        return None

    async def _resumed(self, started: Started) -> None:
        """Resumes the run whenever it is found PAUSED, to its end: a pause may come true late."""
        while await self._until_paused(started):
            await self._client.mutate("resumeRun", "run { status }", runId=started.run_id)

    async def _children_over(self, started: Started) -> None:
        """Those that nobody waits for any more are being cancelled."""
        while started.case.has_children:
            found = (await self._client.ask(CHILDREN, id=started.run_id))["run"]["derivedRuns"]["nodes"]
            if all(one["status"] in TERMINAL for one in found):
                return
            await asyncio.sleep(LOOK_S)

    async def _stands(self, started: Started) -> dict[str, Any]:
        found = (await self._client.ask(STANDS, id=started.run_id))["run"]
        if found is None:
            raise LookupError(f"{started.run_id} was accepted, and the server does not know it")
        return dict(found)


_ACTS: dict[Act, Callable[[Load, Started, Random], Awaitable[None]]] = {
    Act.NOTHING: Load._nothing,
    Act.CANCEL: Load._cancel,
    Act.ANSWER: Load._answer,
    Act.PAUSE: Load._pause,
    Act.REWIND: Load._rewind,
    Act.STEP: Load._step,
}
