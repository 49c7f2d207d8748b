"""The load: starts runs of mixed workflows at a steady rate, and controls them as clients do.

Clients answer, cancel, pause, rewind and step runs at random times.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from app.chaos.client import ChaosClient, NoResponse
from app.chaos.workflows import ANSWER, EVENT, Action, ChaosCase, child_spec, random_case
from engine.states import TERMINAL

STATUS = """
query ($id: ID!) { run(id: $id) {
  status waits { ... on InputWait { waitId } ... on EventWait { callbackUrl } } checkpoints(first: 50) { nodes { id } }
} }
"""
CREATE = """
mutation ($spec: JSON!) { createWorkflow(input: {name: "A child", spec: $spec}) { workflow { id } errors { detail } } }
"""
CHILDREN = "query ($id: ID!) { run(id: $id) { derivedRuns(source: [SUBWORKFLOW], first: 50) { nodes { status } } } }"
POLL_S = 0.4
"""Seconds between two queries of a run's status."""
DUPLICATE_SHARE = 0.1
"""Share of the starts that two callers send at the same time with the same idempotency key."""


@dataclass(slots=True)
class StartedRun:
    """A run that the server has accepted.

    A subscriber sets `ended` when it receives the terminal event.
    """

    run_id: str
    case: ChaosCase
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Load:
    """Starts runs and controls them.

    Args:
        rng: The random source of cases, times and actions.
        per_s: Runs started per second on average.
        at_once: Limit of unfinished runs.
        follow: Called with each accepted run; subscribes to it.

    Attributes:
        started: The accepted runs by id.
        duplicate_runs: Idempotency keys for which two callers got different runs; must be 0.
        refused: Calls that the server refused.
    """

    def __init__(
        self, client: ChaosClient, rng: Random, per_s: float, at_once: int, follow: Callable[[StartedRun], None]
    ) -> None:
        self._client, self._rng, self._per_s, self._follow = client, rng, per_s, follow
        self._slots = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self.started: dict[str, StartedRun] = {}
        self.duplicate_runs = 0
        self.refused: list[str] = []
        self._child = ""

    async def prepare(self) -> None:
        """Create the workflow of child runs.

        Call it before the faults: the mutation has no idempotency key, so it must not be repeated.
        """
        payload = (await self._client.execute(CREATE, spec=child_spec()))["createWorkflow"]
        if payload["errors"]:
            raise ValueError(payload["errors"])
        self._child = payload["workflow"]["id"]

    async def run(self) -> None:
        """Start runs until cancelled. Runs that have been started continue."""
        while True:
            await self._slots.acquire()
            task = asyncio.create_task(self._run_case(random_case(self._rng), Random(self._rng.getrandbits(64))))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            await asyncio.sleep(self._rng.expovariate(self._per_s))

    @property
    def unfinished(self) -> int:
        """The number of runs whose clients have not finished."""
        return len(self._tasks)

    async def finish(self, within_s: float) -> None:
        """Wait until all runs have ended and their clients have finished, at most `within_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.refused.append(repr(error))

    async def _run_case(self, case: ChaosCase, rng: Random) -> None:
        try:
            run_id = await self._start(case, rng)
            if run_id is None:
                return
            started = self.started[run_id] = StartedRun(run_id, case)
            self._follow(started)
            await _ACTIONS[case.action](self, started, rng)
            await started.ended.wait()
            await self._wait_for_children(started)
        except NoResponse:
            return  # The client has counted it.

    async def _start(self, case: ChaosCase, rng: Random) -> str | None:
        inputs = {**(case.inputs or {}), "child": self._child}
        arguments = {"spec": case.spec, "inputs": inputs, "idempotencyKey": self._client.new_key()}
        callers = 2 if rng.random() < DUPLICATE_SHARE else 1
        payloads = await asyncio.gather(
            *(self._client.mutate("runAdhoc", "run { id }", **arguments) for _ in range(callers))
        )
        for payload in payloads:
            if payload["errors"]:
                self.refused.append(f"{case.name}: {payload['errors']}")
                return None
        ids = {payload["run"]["id"] for payload in payloads}
        self.duplicate_runs += len(ids) - 1
        return str(ids.pop())

    # The actions of clients.

    async def _nothing(self, started: StartedRun, rng: Random) -> None:
        return

    async def _cancel(self, started: StartedRun, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0, 7))
        await self._client.mutate("cancelRun", "run { status }", runId=started.run_id)

    async def _answer(self, started: StartedRun, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.2, 4))
        while not started.ended.is_set():
            for wait in (await self._status(started))["waits"]:
                if "waitId" in wait:
                    answer = {"waitId": wait["waitId"], "answer": ANSWER}
                    await self._client.mutate("resumeRun", "run { status }", runId=started.run_id, **answer)
            await asyncio.sleep(POLL_S)

    async def _signal(self, started: StartedRun, rng: Random) -> None:
        """Send an event, sometimes before the run waits for it, and sometimes from two callers."""
        await asyncio.sleep(rng.uniform(0, 3))
        arguments = {"runId": started.run_id, "name": EVENT, "payload": {"n": ANSWER}}
        arguments["idempotencyKey"] = self._client.new_key()
        callers = 2 if rng.random() < DUPLICATE_SHARE else 1
        calls = (self._client.mutate("sendEvent", "kept", **arguments) for _ in range(callers))
        for payload in await asyncio.gather(*calls):
            if payload["errors"]:
                self.refused.append(f"{started.run_id} sendEvent: {payload['errors']}")

    async def _call_back(self, started: StartedRun, rng: Random) -> None:
        """Post to the address of the wait, until the run has ended."""
        await asyncio.sleep(rng.uniform(0.2, 4))
        while not started.ended.is_set():
            for wait in (await self._status(started))["waits"]:
                if wait.get("callbackUrl"):
                    await self._client.post(wait["callbackUrl"], {"n": ANSWER})
            await asyncio.sleep(POLL_S)

    async def _pause(self, started: StartedRun, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.1, 1))
        await self._client.mutate("pauseRun", "run { status }", runId=started.run_id)
        await asyncio.sleep(rng.uniform(0, 2))
        await self._resume_until_end(started)

    async def _rewind(self, started: StartedRun, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.3, 1.5))
        await self._client.mutate("pauseRun", "run { status }", runId=started.run_id)
        run = await self._wait_until_paused(started)
        if run and (checkpoints := run["checkpoints"]["nodes"]):
            chosen = rng.choice(checkpoints)["id"]
            await self._client.mutate("resumeRun", "run { status }", runId=started.run_id, checkpointId=chosen)
        await self._resume_until_end(started)

    async def _step(self, started: StartedRun, rng: Random) -> None:
        await asyncio.sleep(rng.uniform(0.1, 0.6))
        await self._client.mutate("pauseRun", "run { status }", runId=started.run_id)
        for _ in range(3):
            if await self._wait_until_paused(started):
                await self._client.mutate("stepRun", "run { status }", runId=started.run_id)
        await self._resume_until_end(started)

    async def _wait_until_paused(self, started: StartedRun) -> dict[str, Any] | None:
        """Wait until the run is PAUSED and return it; return None if it has ended instead."""
        while not started.ended.is_set():
            run = await self._status(started)
            if run["status"] == "PAUSED":
                return run
            if run["status"] in TERMINAL:
                return None
            await asyncio.sleep(POLL_S)
        return None

    async def _resume_until_end(self, started: StartedRun) -> None:
        """Resume the run whenever it is PAUSED, until it ends: a pause may take effect late."""
        while await self._wait_until_paused(started):
            await self._client.mutate("resumeRun", "run { status }", runId=started.run_id)

    async def _wait_for_children(self, started: StartedRun) -> None:
        """Wait until all child runs have ended.

        Those without a waiting parent are being cancelled.
        """
        while started.case.has_children:
            children = (await self._client.execute(CHILDREN, id=started.run_id))["run"]["derivedRuns"]["nodes"]
            if all(child["status"] in TERMINAL for child in children):
                return
            await asyncio.sleep(POLL_S)

    async def _status(self, started: StartedRun) -> dict[str, Any]:
        run = (await self._client.execute(STATUS, id=started.run_id))["run"]
        if run is None:
            raise LookupError(f"{started.run_id} was accepted, but the server does not know it")
        return dict(run)


_ACTIONS: dict[Action, Callable[[Load, StartedRun, Random], Awaitable[None]]] = {
    Action.NOTHING: Load._nothing,
    Action.CANCEL: Load._cancel,
    Action.ANSWER: Load._answer,
    Action.SIGNAL: Load._signal,
    Action.CALLBACK: Load._call_back,
    Action.PAUSE: Load._pause,
    Action.REWIND: Load._rewind,
    Action.STEP: Load._step,
}
