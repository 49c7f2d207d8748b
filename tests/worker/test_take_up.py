"""A run that loses its worker at any commit goes on from there: the same result, and no finished node runs again."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.compile import compile_spec
from engine.drive import Drive, RunFacts
from engine.nodes.base import NodeConfig, NodeContext, NodeType, Output
from engine.nodes.registry import NodeTypes, load_node_types
from engine.ports import Entry
from engine.spec import parse
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.checkpoints import Saver
from persistence.database import Database
from persistence.journal import PostgresJournal
from tests.driving import accepted


class TickConfig(NodeConfig):
    output: Any
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


TYPES = NodeTypes([*load_node_types().values(), Tick()])


def node(name: str, kind: str = "transform", turns: int = 0, **fields: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"output": f"{{{{ ({name}.output or 0) + 1 }}}}"}
    return {"id": name, "type": kind, "config": {**config, "turns": turns} if kind == "tick" else config, **fields}


def edges(text: str, **conditions: str) -> list[dict[str, Any]]:
    found = []
    for pair in text.split():
        source, target = pair.split(">")
        found.append({"source": source, "target": target, "condition": conditions.get(f"{source}_{target}")})
    return found


SPECS: dict[str, Any] = {
    "quick chain": {"nodes": [node(n) for n in "abcd"], "edges": edges("a>b b>c c>d")},
    "launched chain": {"nodes": [node(n, "tick") for n in "abcd"], "edges": edges("a>b b>c c>d")},
    "branches of both kinds that join": {
        "nodes": [node("a"), node("b", "tick", 3), node("b2"), node("c"), node("c2", "tick"), node("c3"), node("j")],
        "edges": edges("a>b b>b2 a>c c>c2 c2>c3 b2>j c3>j"),
    },
    "a loop with a launched node, beside a slow branch": {
        "nodes": [node("s"), node("h"), node("w", "tick", 2), node("x"), node("slow", "tick", 40), node("end")],
        "edges": edges("s>h h>w w>h w>x s>slow slow>end x>end", w_h="w.output < 4", w_x="w.output >= 4"),
    },
    "nested loops with dead branches": {
        "nodes": [node("o"), node("i", "tick"), node("k"), node("dead"), node("e", "tick"), node("x")],
        "edges": edges(
            "__start__>o o>i i>k k>i k>dead k>e dead>x e>o e>x",
            k_i="k.output % 3 != 0",
            k_dead="false",
            k_e="k.output % 3 == 0",
            e_o="e.output < 2",
            e_x="e.output >= 2",
        ),
    },
    "join any over launched nodes": {
        "nodes": [node("a"), node("b", "tick", 20), node("c", "tick"), node("j", join="any"), node("z")],
        "edges": edges("a>b a>c b>j c>j j>z"),
    },
}


class Killed(Exception):
    """The worker is gone."""


class Mortal:
    """A journal whose process dies at commit number `at`: before it is sent, or right after it landed."""

    def __init__(self, journal: PostgresJournal, at: int, before: bool) -> None:
        self._journal, self._left, self._before = journal, at, before
        self.is_dead = False

    async def commit(self, entry: Entry) -> int:
        self._left -= 1
        if self.is_dead or (self._left == 0 and self._before):
            self.is_dead = True
            raise Killed
        last = await self._journal.commit(entry)
        if self._left == 0:
            self.is_dead = True
            raise Killed
        return last

    def post(self, entry: Entry) -> None:
        if not self.is_dead:
            self._journal.post(entry)


async def take_up(database: Database, journal: Mortal, run_id: str, spec: Any) -> RunStatus | None:
    """One take-up by a worker of its own; None if it died."""
    claim = "UPDATE runs SET epoch = epoch + 1, status = 'RUNNING' WHERE id = $1 RETURNING epoch"
    epoch = await database.pool.fetchval(claim, run_id)
    saver = Saver(database.pool)
    facts = RunFacts(run_id, epoch, 0, {})
    drive = Drive(facts, compile_spec(parse(spec), TYPES, saver), journal=journal, head=saver, resources={})
    try:
        return await asyncio.wait_for(drive.run(), 20)
    except Killed:
        return None


async def play(database: Database, redis: Redis, run_id: str, spec: Any, deaths: list[tuple[int, bool]]) -> int:
    """Runs to the end through the given deaths; returns how many take-ups that was."""
    journal = PostgresJournal(database.pool, redis)
    journal.open()
    try:
        for number, (at, before) in enumerate([*deaths, (10**6, False)], 1):
            if await take_up(database, Mortal(journal, at, before), run_id, spec) is not None:
                return number
    finally:
        await journal.close()
    raise AssertionError("the last take-up must end")


async def told(database: Database, run_id: str) -> tuple[Any, Counter[tuple[str, int]], list[int], str]:
    """(output, how often each visit of a node completed, event numbers, status)."""
    run = await database.pool.fetchrow("SELECT output, status FROM runs WHERE id = $1", run_id)
    rows = await database.pool.fetch(
        "SELECT seq, type, node_id, body FROM events WHERE run_id = $1 ORDER BY seq", run_id
    )
    done = [row for row in rows if row["type"] == "NODE_STATE" and row["body"]["status"] == "COMPLETED"]
    visits = Counter((row["node_id"], row["body"]["visits"]) for row in done)
    return run["output"], visits, [row["seq"] for row in rows], run["status"]


@pytest.mark.parametrize("name", SPECS)
async def test_a_death_at_any_commit_changes_nothing_and_repeats_nothing(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    spec = SPECS[name]
    whole = (await accepted(database, caller, project)).run.id
    await play(database, redis, whole, spec, [])
    expected = await told(database, whole)
    assert expected[3] == "COMPLETED"
    for at in range(1, len(expected[2])):
        for before in (True, False):
            run_id = (await accepted(database, caller, project)).run.id
            takeups = await play(database, redis, run_id, spec, [(at, before)])
            output, visits, numbers, status = await told(database, run_id)
            assert (status, output) == ("COMPLETED", expected[0]), (at, before)
            assert visits == expected[1], (at, before)
            assert numbers == list(range(1, len(numbers) + 1))
            if takeups == 1:
                break
        if takeups == 1:
            break


@pytest.mark.parametrize("name", SPECS)
async def test_a_worker_that_dies_at_every_second_commit_still_gets_there(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    whole = (await accepted(database, caller, project)).run.id
    await play(database, redis, whole, SPECS[name], [])
    run_id = (await accepted(database, caller, project)).run.id
    await play(database, redis, run_id, SPECS[name], [(2, False)] * 60)
    assert (await told(database, run_id))[:2] == (await told(database, whole))[:2]
