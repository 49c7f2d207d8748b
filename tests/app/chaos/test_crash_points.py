"""After a SIGKILL at each crash point, the run continues and no finished node is executed again."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from random import Random

import asyncpg
import pytest

from app.chaos import execution_log, lease_log, nodes, run_history
from app.chaos.audit import Observations, invalid_executions
from app.chaos.client import ChaosClient
from app.chaos.execution_log import Execution
from app.chaos.processes import Processes, ProcessSlot, environment_of
from app.chaos.run_history import AuditedRun
from app.chaos.workflows import edges, transform, work
from app.settings import Settings
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.secrets import store
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from tests.app.chaos.crash_points import CRASH_POINTS, NODE, OF_DELIVERIES
from tests.executor_worker import accept_spec
from tests.journal_worker import accept_run
from tests.paths import ROOT
from tests.peers.http import Peer
from tests.persistence.notifications.stored_endpoints import delivery_rows, new_endpoint, set_status
from tests.worker.notifications.all_deliveries import send_all
from worker.deliveries import DeliveryLoop

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
STARTS = {
    "claim": 1,
    "node announced": 1,
    "node start": 2,
    "node end": 2,
    "before node end is committed": 2,
    "node end committed": 1,
    "before terminal": 1,
    "terminal": 1,
}
"""How often the node in the middle starts in total: again only if its end was not durable."""


class CrashTestSystem:
    """One database with a lease log, and processes that use it."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.folder, self.url, self.records = folder, database_url, folder / "records"
        self.records.mkdir()
        urls = {"TREADLE_DATABASE_URL": database_url, "TREADLE_REDIS_URL": redis_url}
        # A process that dies early may not have its advisory lock yet. Then its lease must expire.
        short_lease = {"TREADLE_LEASE_TTL_S": "2", "TREADLE_HEARTBEAT_S": "0.5", "TREADLE_LOG_FORMAT": "json"}
        self.settings = {**urls, **short_lease, execution_log.FOLDER: str(self.records)}
        self.paths = [nodes.install(folder), ROOT]
        self.slots: list[ProcessSlot] = []

    def start(self, *module: str) -> ProcessSlot:
        environment = environment_of(self.settings, self.paths)
        slot = ProcessSlot(module[0], list(module), environment, self.folder / f"{module[0]}.log")
        self.slots.append(slot)
        slot.start()
        return slot

    async def wait_for_crash(self, slot: ProcessSlot) -> None:
        """Wait until the process has killed itself, and check that SIGKILL ended it."""
        async with asyncio.timeout(30):
            await slot.ended()
        assert slot.process is not None
        assert slot.process.returncode == -signal.SIGKILL, slot.log.read_text()[-3000:]

    async def result(self, run_id: str) -> tuple[AuditedRun, list[Execution]]:
        """Wait until the run is over, check its history, and return it with its executions."""
        async with asyncio.timeout(30):
            while not (history := await run_history.read(self.url)).runs[run_id].is_over:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # The database of another process sends no notification.
        executions = execution_log.read(self.records)
        invalid = invalid_executions(Observations(history, {}, (), executions, (), ()))
        assert (invalid.repeated, invalid.duplicate, invalid.without_lease) == ([], [], [])
        run = history.runs[run_id]
        assert (run.terminal_events(), run.has_gaps()) == (1, False)
        assert (run.illegal_transitions(), run.repeated_completions()) == ([], [])
        return run, executions

    async def stop(self) -> None:
        await asyncio.gather(*(slot.stop(20) for slot in self.slots))


@pytest.fixture
async def system(tmp_path: Path, database_url: str, redis_url: str) -> AsyncIterator[CrashTestSystem]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(lease_log.INSTALL)
    await connection.close()
    system = CrashTestSystem(tmp_path, database_url, redis_url)
    yield system
    await system.stop()


@pytest.mark.parametrize("crash_point", [name for name in CRASH_POINTS if name not in ("accept", *OF_DELIVERIES)])
async def test_a_run_continues_after_its_worker_was_killed_at(
    crash_point: str, system: CrashTestSystem, database: Database, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, SPEC)
    await system.wait_for_crash(system.start("tests.app.chaos.crash_points", crash_point, "worker"))
    system.start("app.cli", "worker")
    run, executions = await system.result(run_id)
    assert (run.status, run.output) == ("COMPLETED", OUTPUT)
    starts = Counter(one.node_id for one in executions)
    assert starts[NODE] == STARTS.get(crash_point, starts[NODE])
    assert set(starts) == {"first", "quick", NODE, "then", "last"}


async def test_a_run_continues_after_its_server_was_killed_directly_after_accepting_it(system: CrashTestSystem) -> None:
    processes = Processes(system.folder, system.settings, system.paths, 0)
    client, server = ChaosClient(processes.port, Random(1)), processes.server
    program, *command = server.module
    call = asyncio.create_task(client.mutate("runAdhoc", "run { id }", spec=SPEC, inputs={}, idempotencyKey="once"))
    try:
        server.module = ["tests.app.chaos.crash_points", "accept", *command]
        server.start()
        await system.wait_for_crash(server)
        system.start("app.cli", "worker")
        server.module = [program, *command]
        server.start()
        async with asyncio.timeout(30):
            run_id = (await call)["run"]["id"]
        run, _ = await system.result(run_id)
        assert (run.status, run.output) == ("COMPLETED", OUTPUT)
        assert list((await run_history.read(system.url)).runs) == [run_id]
    finally:
        call.cancel()
        await client.close()
        await processes.stop(20)


async def test_a_message_is_sent_although_workers_are_killed_before_and_after_sending_it(
    system: CrashTestSystem, database: Database, caller: Caller, project: str, peer: Peer
) -> None:
    system.settings |= {"TREADLE_HTTP_ALLOW": "127.0.0.1", "TREADLE_DATA_DIR": str(system.folder)}
    resolver = await open_secrets(database, KeySource.of(Settings(data_dir=system.folder)))
    async with database.begin() as connection:
        await store.put(connection, caller, resolver.keys.keyring(), project, "hook_key", "a key of the test")
    await new_endpoint(database, caller, project, url=peer.url + "/echo", events=["RUN_FAILED"])
    await set_status(database, (await accept_run(database, caller, project)).run.id, "FAILED")
    for sent, crash_point in enumerate(OF_DELIVERIES):
        await system.wait_for_crash(system.start("tests.app.chaos.crash_points", crash_point, "worker"))
        [row] = await delivery_rows(database)
        assert (row["status"], row["attempts"], peer.count("/echo")) == ("PENDING", sent + 1, sent)
        await database.pool.execute("UPDATE deliveries SET next_attempt_at = now()")  # The claim ends.
    # The next worker. A process of its own would cost seconds.
    http = GuardedHttp(Allowed.parse("127.0.0.1"))
    await send_all(DeliveryLoop(database, http, resolver, max_failing=timedelta(days=5)))
    assert [row["status"] for row in await delivery_rows(database)] == ["DELIVERED"]
    assert [request.headers["webhook-id"] for request in peer.seen] == [row["id"]] * 2
