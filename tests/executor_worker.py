"""Take-ups of a run by the real drive, saver and journal, without processes: tests kill it where they like."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from redis.asyncio import Redis

from engine.events import OutputDelta
from engine.graph.compiler import compile_spec
from engine.nodes.registry import load_node_types
from engine.runtime.executor import RunExecutor
from engine.runtime.ports import Entry
from engine.runtime.run_info import RunInfo
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output, WaitForAnswer, WaitUntil
from engine.sdk.node_types import NodeTypes
from engine.spec.parser import parse
from persistence.caller import Caller
from persistence.checkpoints.saver import Saver
from persistence.db.database import Database
from persistence.events.codec import error_of
from persistence.journal.journal import PostgresJournal
from persistence.runs.create import NewRun, accept
from persistence.runs.run import RunOptions
from persistence.workflows.drafts import Content
from persistence.workflows.versions import ensure_adhoc

T = TypeVar("T")


class TickConfig(NodeConfig):
    output: Any = None
    turns: int = 0


class Tick(NodeType[TickConfig]):
    """Waits for some turns of the event loop, as a node that asks the world would."""

    name = "tick"
    title = "Tick"
    description = "For tests."
    Config = TickConfig

    async def execute(self, config: TickConfig, ctx: NodeContext) -> Output:
        for _ in range(config.turns):
            await asyncio.sleep(0)
        return Output(ctx.render(config.output))


class BellConfig(NodeConfig):
    pass


class Bell(NodeType[BellConfig]):
    """Says that it runs, and goes on when the test says so."""

    name = "bell"
    title = "Bell"
    description = "For tests."
    Config = BellConfig

    def __init__(self) -> None:
        self.running, self.go_on = asyncio.Event(), asyncio.Event()

    async def execute(self, config: BellConfig, ctx: NodeContext) -> Output:
        self.running.set()
        await self.go_on.wait()
        return Output("rung")


class AskConfig(NodeConfig):
    prompt: Any


class Ask(NodeType[AskConfig]):
    """Waits for an answer."""

    name = "ask"
    title = "Ask"
    description = "For tests."
    Config = AskConfig
    ports = ("answered", "expired")

    async def execute(self, config: AskConfig, ctx: NodeContext) -> WaitForAnswer | WaitUntil:
        return WaitForAnswer(ctx.render(config.prompt))


def node_types(*more: NodeType[Any]) -> NodeTypes:
    return NodeTypes([*load_node_types().values(), Tick(), Ask(), *more])


def node(name: str, kind: str = "transform", turns: int = 0, **fields: Any) -> dict[str, Any]:
    """A node that counts its own visits."""
    config: dict[str, Any] = {"output": f"{{{{ ({name}.output or 0) + 1 }}}}"}
    return {"id": name, "type": kind, "config": {**config, "turns": turns} if kind == "tick" else config, **fields}


def edges(text: str, **conditions: str) -> list[dict[str, Any]]:
    """`a>b b>c`, with conditions by `a_b`."""
    found = []
    for pair in text.split():
        source, target = pair.split(">")
        found.append({"source": source, "target": target, "condition": conditions.get(f"{source}_{target}")})
    return found


async def accept_spec(
    database: Database, caller: Caller, project: str, spec: Any, options: RunOptions | None = None
) -> str:
    """The id of a new QUEUED run of `spec`."""
    async with database.begin() as connection:
        version = await ensure_adhoc(connection, caller, project, Content(spec, f"hash of {spec}"))
        new = NewRun(project, None, version.id, {}, options=options or RunOptions())
        return (await accept(connection, caller, new)).run.id


class Killed(Exception):
    """The worker is gone."""


async def _killed(landed: Awaitable[int] | None) -> int:
    if landed is not None:
        await landed
    raise Killed


class Mortal:
    """A journal whose process dies at commit number `at`: before it is sent, or right after it landed."""

    def __init__(self, journal: PostgresJournal, at: int = 10**6, before: bool = False) -> None:
        self._journal, self._left, self._before = journal, at, before
        self.is_dead = False

    def commit(self, entry: Entry) -> Awaitable[int]:
        self._left -= 1
        if self.is_dead or (self._left == 0 and self._before):
            self.is_dead = True
            return _killed(None)
        landed = self._journal.commit(entry)
        if self._left == 0:
            self.is_dead = True
            return _killed(landed)
        return landed

    def post(self, entry: Entry) -> None:
        if not self.is_dead:
            self._journal.post(entry)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        if not self.is_dead:
            self._journal.stream(run_id, delta)


class Worker:
    """Takes runs up, each time as a new process would. Use as a context: it holds a journal."""

    def __init__(
        self,
        database: Database,
        redis: Redis,
        types: NodeTypes | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self._database, self._types, self._resources = database, types or node_types(), resources or {}
        self.journal = PostgresJournal(database.pool, redis, database.deadlines)

    async def __aenter__(self) -> "Worker":
        self.journal.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.journal.close()

    async def take_up(self, run_id: str, at: int = 10**6, before: bool = False, **info: Any) -> RunExecutor:
        """A drive that holds the run now; `at` and `before` say when its journal dies."""
        claim = """UPDATE runs SET epoch = epoch + 1, status = 'RUNNING', wake_at = NULL WHERE id = $1
            RETURNING project_id, epoch, version_id, resumed_step, is_step, options, lineage, inputs, error"""
        row = await self._database.pool.fetchrow(claim, run_id)
        spec = await self._database.pool.fetchval("SELECT spec FROM versions WHERE id = $1", row["version_id"])
        known = {
            "breakpoints": frozenset(row["options"]["breakpoints"]),
            "is_step": row["is_step"],
            "resumed_step": row["resumed_step"],
            "failure": error_of(row["error"]),
        }
        saver = Saver(self._database.pool, self.journal.clock_skew)
        return RunExecutor(
            RunInfo(run_id, row["project_id"], row["epoch"], row["lineage"], row["inputs"], **{**known, **info}),
            compile_spec(parse(spec), self._types, saver),
            journal=Mortal(self.journal, at, before),
            head=saver,
            resources=self._resources,
        )


async def told(database: Database, run_id: str) -> tuple[Any, Counter[tuple[str, int]], list[int], str]:
    """(output, how often each visit of a node completed, event numbers, status)."""
    run = await database.pool.fetchrow("SELECT output, status FROM runs WHERE id = $1", run_id)
    rows = await database.pool.fetch(
        "SELECT seq, type, node_id, body FROM events WHERE run_id = $1 ORDER BY seq", run_id
    )
    done = [row for row in rows if row["type"] == "NODE_STATE" and row["body"]["status"] == "COMPLETED"]
    visits = Counter((row["node_id"], row["body"]["visits"]) for row in done)
    return run["output"], visits, [row["seq"] for row in rows], run["status"]


async def eventually(probe: Callable[[], Awaitable[T]]) -> T:
    """The first truthy answer of `probe`, which asks the database; fails after 10 s without one."""
    async with asyncio.timeout(10):
        while not (found := await probe()):  # noqa: ASYNC110 (the database tells nobody)
            await asyncio.sleep(0.005)
    return found
