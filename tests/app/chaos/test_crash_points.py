"""SIGKILL at each boundary of a run's life, placed by the process itself: the run goes on, and nothing finished runs again."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import asyncpg
import pytest

from app.chaos import execution_log, lease_log, nodes, run_history
from app.chaos.audit import Gathered, judged
from app.chaos.client import ChaosClient
from app.chaos.execution_log import Record
from app.chaos.processes import Processes, ProcessSlot, environment_of
from app.chaos.run_history import AuditedRun
from app.chaos.workflows import edges, transform, work
from persistence.caller import Caller
from persistence.db.database import Database
from tests.app.chaos.crash_points import BOUNDARIES, NODE
from tests.executor_worker import accept_spec
from tests.paths import ROOT

SPEC = {
    "nodes": [
        work("first", 1),
        transform("quick", "{{ first.output + 1 }}"),
        work(NODE, "{{ quick.output * 10 }}", 0.05),
        transform("then", "{{ work.output + 1 }}"),
        work("last", "{{ then.output }}"),
    ],
    "edges": edges("first>quick quick>work work>then then>last"),
}
OUTPUT = {"last": 21}
EXECUTED = {
    "claim": 1,
    "node announced": 1,
    "node start": 2,
    "node end": 2,
    "before node end is committed": 2,
    "node end committed": 1,
    "before terminal": 1,
    "terminal": 1,
}
"""How often the node in the middle is begun, all in all: again only where its end was not durable."""


class System:
    """One database, watched, and processes on it."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.folder, self.url, self.records = folder, database_url, folder / "records"
        self.records.mkdir()
        urls = {"TREADLE_DATABASE_URL": database_url, "TREADLE_REDIS_URL": redis_url}
        # A process that dies in its first moments may not have its lock yet: then its lease has to run out.
        short = {"TREADLE_LEASE_TTL_S": "2", "TREADLE_HEARTBEAT_S": "0.5", "TREADLE_LOG_FORMAT": "json"}
        self.settings = {**urls, **short, execution_log.FOLDER: str(self.records)}
        self.paths = [nodes.install(folder), ROOT]
        self.slots: list[ProcessSlot] = []

    def start(self, *module: str) -> ProcessSlot:
        environment = environment_of(self.settings, self.paths)
        slot = ProcessSlot(module[0], list(module), environment, self.folder / f"{module[0]}.log")
        self.slots.append(slot)
        slot.start()
        return slot

    async def died(self, slot: ProcessSlot) -> None:
        """Until it has killed itself, and by nothing else."""
        async with asyncio.timeout(30):
            await slot.ended()
        assert slot.process is not None
        assert slot.process.returncode == -signal.SIGKILL, slot.log.read_text()[-3000:]

    async def over(self, run_id: str) -> tuple[AuditedRun, list[Record]]:
        """The run, once it is over, with what was executed of it; found to be without a fault."""
        async with asyncio.timeout(30):
            while not (told := await run_history.read(self.url)).runs[run_id].is_over:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # another process's database: nobody tells us
        records = execution_log.read(self.records)
        executed = judged(Gathered(told, {}, (), records, (), ()))
        assert (executed.again, executed.twice, executed.unheld) == ([], [], [])
        run = told.runs[run_id]
        assert (run.ends(), run.has_gaps(), run.illegal_moves(), run.doubled_ends()) == (1, False, [], [])
        return run, records

    async def end(self) -> None:
        await asyncio.gather(*(slot.stop(20) for slot in self.slots))


@pytest.fixture
async def system(tmp_path: Path, database_url: str, redis_url: str) -> AsyncIterator[System]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(lease_log.INSTALL)
    await connection.close()
    system = System(tmp_path, database_url, redis_url)
    yield system
    await system.end()


@pytest.mark.parametrize("boundary", [name for name in BOUNDARIES if name != "accept"])
async def test_a_run_goes_on_after_its_worker_was_killed_at(
    boundary: str, system: System, database: Database, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, SPEC)
    await system.died(system.start("tests.app.chaos.crash_points", boundary, "worker"))
    system.start("app.cli", "worker")
    run, records = await system.over(run_id)
    assert (run.status, run.output) == ("COMPLETED", OUTPUT)
    executed = Counter(record.node_id for record in records)
    assert executed[NODE] == EXECUTED.get(boundary, executed[NODE])
    assert set(executed) == {"first", "quick", NODE, "then", "last"}


async def test_a_run_goes_on_after_its_server_was_killed_when_it_had_accepted_it(system: System) -> None:
    processes = Processes(system.folder, system.settings, system.paths, 0)
    client, server = ChaosClient(processes.port, Random(1)), processes.server
    program, *command = server.module
    asked = asyncio.create_task(client.mutate("runAdhoc", "run { id }", spec=SPEC, inputs={}, idempotencyKey="once"))
    try:
        server.module = ["tests.app.chaos.crash_points", "accept", *command]
        server.start()
        await system.died(server)
        system.start("app.cli", "worker")
        server.module = [program, *command]
        server.start()
        async with asyncio.timeout(30):
            run_id = (await asked)["run"]["id"]
        run, _ = await system.over(run_id)
        assert (run.status, run.output) == ("COMPLETED", OUTPUT)
        assert list((await run_history.read(system.url)).runs) == [run_id]
    finally:
        asked.cancel()
        await client.close()
        await processes.stop(20)
