"""A worker without processes: real executor, saver and journal. Tests kill it at any commit."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from redis.asyncio import Redis

from engine.events import NodeChange, NodeState, OutputDelta
from engine.graph.compiler import compile_spec
from engine.nodes.registry import load_node_types
from engine.runtime.executor import RunExecutor
from engine.runtime.ports import Entry
from engine.runtime.run_info import RunInfo
from engine.sdk.node import ANSWERED, EXPIRED, NodeConfig, NodeContext, NodeType, Output, WaitForAnswer, WaitUntil
from engine.sdk.node_types import NodeTypes
from engine.spec.parser import parse
from engine.states import NodeStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.checkpoints.saver import Saver
from persistence.db.database import Database
from persistence.db.tables import checkpoints
from persistence.events.codec import data_of, error_of
from persistence.events.history import Checkpoint, checkpoint_rows, checkpoints_of_row
from persistence.journal.journal import PostgresJournal
from persistence.runs.create import NewRun, accept
from persistence.runs.run import RunOptions
from persistence.workflows.drafts import Content
from persistence.workflows.versions import ensure_adhoc

T = TypeVar("T")


class TickConfig(NodeConfig):
    output: Any = None
    turns: int = 0


class TickNode(NodeType[TickConfig]):
    """Takes some turns of the event loop, like a node that waits for a network."""

    name = "tick"
    title = "Tick"
    description = "For tests."
    Config = TickConfig

    async def execute(self, config: TickConfig, ctx: NodeContext) -> Output:
        for _ in range(config.turns):
            await asyncio.sleep(0)
        return Output(ctx.render(config.output))


class GatedConfig(NodeConfig):
    pass


class GatedNode(NodeType[GatedConfig]):
    """Sets `running` when it starts, and ends when the test sets `release`."""

    name = "gated"
    title = "Gated"
    description = "For tests."
    Config = GatedConfig

    def __init__(self) -> None:
        self.running, self.release = asyncio.Event(), asyncio.Event()

    async def execute(self, config: GatedConfig, ctx: NodeContext) -> Output:
        self.running.set()
        await self.release.wait()
        return Output("released")


class AskConfig(NodeConfig):
    prompt: Any


class AskNode(NodeType[AskConfig]):
    """Waits for the answer of a person."""

    name = "ask"
    title = "Ask"
    description = "For tests."
    Config = AskConfig
    ports = (ANSWERED, EXPIRED)

    async def execute(self, config: AskConfig, ctx: NodeContext) -> WaitForAnswer | WaitUntil:
        return WaitForAnswer(ctx.render(config.prompt))

    def port_of(self, config: AskConfig, output: JSON) -> str:
        return ANSWERED


def node_types(*more: NodeType[Any]) -> NodeTypes:
    return NodeTypes([*load_node_types().values(), TickNode(), AskNode(), *more])


def node(name: str, kind: str = "transform", turns: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a node whose output is the number of its visits."""
    config: dict[str, Any] = {"output": f"{{{{ ({name}.output or 0) + 1 }}}}"}
    return {"id": name, "type": kind, "config": {**config, "turns": turns} if kind == "tick" else config, **fields}


def edges(text: str, **conditions: str) -> list[dict[str, Any]]:
    """Return the edges of `a>b b>c`. The condition of `a>b` is the argument `a_b`."""
    result = []
    for pair in text.split():
        source, target = pair.split(">")
        result.append({"source": source, "target": target, "condition": conditions.get(f"{source}_{target}")})
    return result


async def accept_spec(
    database: Database, caller: Caller, project: str, spec: Any, options: RunOptions | None = None
) -> str:
    """Accept a run of `spec`, and return its id. The run is QUEUED."""
    async with database.begin() as connection:
        version = await ensure_adhoc(connection, caller, project, Content(spec, f"hash of {spec}"))
        new = NewRun(project, None, version.id, {}, options=options or RunOptions())
        return (await accept(connection, caller, new)).run.id


class Killed(Exception):
    """The simulated worker process has died."""


async def _die(commit: Awaitable[int] | None) -> int:
    if commit is not None:
        await commit
    raise Killed


class CrashingJournal:
    """A journal whose process dies at commit number `at`: before the commit, or right after it."""

    def __init__(self, journal: PostgresJournal, at: int = 10**6, before: bool = False) -> None:
        self._journal, self._left, self._before = journal, at, before
        self.is_dead = False

    def commit(self, entry: Entry) -> Awaitable[int]:
        self._left -= 1
        if self.is_dead or (self._left == 0 and self._before):
            self.is_dead = True
            return _die(None)
        commit = self._journal.commit(entry)
        if self._left == 0:
            self.is_dead = True
            return _die(commit)
        return commit

    def post(self, entry: Entry) -> None:
        if not self.is_dead:
            self._journal.post(entry)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        if not self.is_dead:
            self._journal.stream(run_id, delta)


class ExecutorWorker:
    """Claims runs, each time as a new worker process would. It owns a journal."""

    def __init__(
        self,
        database: Database,
        redis: Redis,
        types: NodeTypes | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self._database, self._types, self._resources = database, types or node_types(), resources or {}
        self.journal = PostgresJournal(database.pool, redis, database.deadlines)

    async def __aenter__(self) -> "ExecutorWorker":
        self.journal.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.journal.close()

    async def claim(self, run_id: str, at: int = 10**6, before: bool = False, **info: Any) -> RunExecutor:
        """Claim a run and return its executor. `at` and `before` say when its journal dies."""
        claim = """UPDATE runs SET epoch = epoch + 1, status = 'RUNNING', wake_at = NULL WHERE id = $1
            RETURNING project_id, epoch, version_id, resumed_step, is_step, options, lineage, inputs, error"""
        row = await self._database.pool.fetchrow(claim, run_id)
        spec = await self._database.pool.fetchval("SELECT spec FROM versions WHERE id = $1", row["version_id"])
        fields = {
            "breakpoints": frozenset(row["options"]["breakpoints"]),
            "is_step": row["is_step"],
            "resumed_step": row["resumed_step"],
            "failure": error_of(row["error"]),
        }
        saver = Saver(self._database.pool, self.journal.clock_skew)
        return RunExecutor(
            RunInfo(run_id, row["project_id"], row["epoch"], row["lineage"], row["inputs"], **{**fields, **info}),
            compile_spec(parse(spec), self._types, saver),
            journal=CrashingJournal(self.journal, at, before),
            head=saver,
            resources=self._resources,
        )


async def run_summary(database: Database, run_id: str) -> tuple[Any, Counter[tuple[str, int]], list[int], str]:
    """Return output, completions by node and visit, event numbers, and status of a run."""
    run = await database.pool.fetchrow("SELECT output, status FROM runs WHERE id = $1", run_id)
    rows = await database.pool.fetch("SELECT seq FROM events WHERE run_id = $1 ORDER BY seq", run_id)
    states = await states_in_events(database, run_id)
    visits = Counter((state.node_id, state.visits) for state in states if state.status is NodeStatus.COMPLETED)
    return run["output"], visits, [row["seq"] for row in rows], run["status"]


async def states_in_events(database: Database, run_id: str, node_id: str | None = None) -> list[NodeState]:
    """Return the node states in the events of a run, or of one of its nodes, in order."""
    query = "SELECT * FROM events WHERE run_id = $1 AND type = 'NODE_STATE' ORDER BY seq"
    rows = await database.pool.fetch(query, run_id)
    changes = [data_of(row["type"], row["node_id"], row["body"], run_id, row["seq"], row["at"]) for row in rows]
    states = [change.state for change in changes if isinstance(change, NodeChange)]
    return [state for state in states if node_id in (None, state.node_id)]


async def all_checkpoints(database: Database, run_id: str) -> list[Checkpoint]:
    """Return the checkpoints of a run, oldest first, those inside a stretch included."""
    query = checkpoint_rows().where(checkpoints.c.run_id == run_id).order_by(checkpoints.c.seq)
    async with database.connect() as connection:
        rows = (await connection.execute(query)).mappings().all()
    return [checkpoint for row in rows for checkpoint in reversed(checkpoints_of_row(row))]


async def eventually(probe: Callable[[], Awaitable[T]], timeout_s: float = 10) -> T:
    """Call `probe`, which reads the database, until its result is truthy.

    A test of a command allows more time: its start may take seconds on a busy machine.
    """
    async with asyncio.timeout(timeout_s):
        while not (result := await probe()):  # noqa: ASYNC110 (the database sends no signal)
            await asyncio.sleep(0.005)
    return result
