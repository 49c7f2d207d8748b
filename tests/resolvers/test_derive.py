"""Retries and forks by their mutations, under the real drive: what had finished is not run again, all else comes out alike."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from engine.drive import Drive
from engine.nodes.base import NodeContext, NodeFailure, Output
from engine.states import RunStatus
from engine.takeup import Stop
from persistence.caller import Caller, Role
from persistence.database import Database
from persistence.feed import Feed
from resolvers import control
from resolvers.context import Context
from tests.calling import mutate, new_workflow
from tests.driving import until
from tests.taking_up import Bell, Tick, TickConfig, Worker, accept_spec, edges, node, node_types, told
from tests.worker.test_take_up import SPECS
from worker.queue import Queue

RUN = "run { id status source statusMessage retryOf { id } forkedFrom { id } options { priority breakpoints } }"


class Flaky(Tick):
    """Fails until it is mended; remembers its keys."""

    name = "flaky"

    def __init__(self) -> None:
        self.is_mended, self.keys = False, list[str]()

    async def execute(self, config: TickConfig, ctx: NodeContext) -> Output:
        self.keys.append(ctx.idempotency_key)
        if not self.is_mended:
            raise NodeFailure("TEST", "not yet")
        return await super().execute(config, ctx)


class QuickFlaky(Flaky):
    name = "quick_flaky"
    launched = False


FLAKY, QUICK_FLAKY = Flaky(), QuickFlaky()


@pytest.fixture
async def context(database: Database, redis: Redis, caller: Caller) -> AsyncIterator[Context]:
    feed = Feed(database, redis)
    queue = Queue(ArqRedis(redis.connection_pool), "test")
    FLAKY.is_mended, FLAKY.keys, QUICK_FLAKY.is_mended = False, [], False
    yield Context(caller, database, node_types(FLAKY, QUICK_FLAKY), redis, queue, feed)
    await feed.close()


@pytest.fixture
async def worker(database: Database, redis: Redis) -> AsyncIterator[Worker]:
    async with Worker(database, redis, node_types(FLAKY, QUICK_FLAKY)) as worker:
        yield worker


async def drive(worker: Worker, run_id: str) -> RunStatus | None:
    taken: Drive = await worker.take_up(run_id)
    return await asyncio.wait_for(taken.run(), 20)


async def checkpoints(database: Database, run_id: str) -> list[Any]:
    return await database.pool.fetch("SELECT * FROM checkpoints WHERE run_id = $1 ORDER BY seq", run_id)


async def derived(context: Context, mutation: str, **input: Any) -> Any:
    payload = await mutate(context, mutation, RUN, **input)
    assert payload["errors"] == [], payload["errors"]
    return payload["run"]


async def refused(context: Context, mutation: str, **input: Any) -> list[tuple[str, str]]:
    """(field, code) of each problem; nothing was written."""
    before = await context.database.pool.fetchval("SELECT count(*) FROM runs")
    payload = await mutate(context, mutation, RUN, **input)
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == before
    [error] = payload["errors"]
    return [(one["field"], one["code"]) for one in error.get("errors", [{"field": "", "code": error["code"]}])]


@pytest.mark.parametrize("name", SPECS)
async def test_a_fork_from_any_checkpoint_comes_to_the_same_end_and_runs_nothing_twice(
    context: Context, worker: Worker, caller: Caller, project: str, name: str
) -> None:
    database = context.database
    whole = await accept_spec(database, caller, project, SPECS[name])
    await drive(worker, whole)
    expected = await told(database, whole)
    for place in await checkpoints(database, whole):
        fork = await derived(context, "forkRun", checkpointId=place["id"])
        assert (fork["status"], fork["source"], fork["forkedFrom"]) == ("QUEUED", "FORK", {"id": place["id"]})
        await shows_what_it_copied(database, fork["id"], whole, place)
        assert await drive(worker, fork["id"]) is RunStatus.COMPLETED
        output, visits, numbers, _ = await told(database, fork["id"])
        assert output == expected[0]
        assert visits.keys() <= expected[1].keys() and set(visits.values()) == {1}
        assert numbers == list(range(1, len(numbers) + 1))


async def shows_what_it_copied(database: Database, run_id: str, whole: str, place: Any) -> None:
    """Numbers without gaps, node states as their last events say, and a head with all outputs of the checkpoint."""
    last = await database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)
    rows = await database.pool.fetch("SELECT * FROM events WHERE run_id = $1 ORDER BY seq", run_id)
    assert [row["seq"] for row in rows] == list(range(1, last + 1))
    assert (rows[0]["type"], rows[-1]["type"]) == ("RUN_STATUS", "CHECKPOINT")
    assert f"Fork of {whole} at step {place['step']}" == rows[0]["body"]["message"]
    stated = {row["node_id"]: (row["body"]["status"], row["body"]["visits"]) for row in rows if row["node_id"]}
    states = await database.pool.fetch("SELECT * FROM node_states WHERE run_id = $1", run_id)
    assert {row["node_id"]: (row["status"], row["visits"]) for row in states} == stated
    assert not {"RUNNING", "WAITING"} & {status for status, _ in stated.values()}
    latest = """SELECT DISTINCT ON (node_id) node_id, visit, output::text FROM node_outputs
        WHERE run_id = $1 AND seq <= $2 ORDER BY node_id, seq DESC"""
    ours = await database.pool.fetch(latest, run_id, last)
    assert ours == await database.pool.fetch(latest, whole, place["seq"])
    [head] = await checkpoints(database, run_id)
    assert (head["seq"], head["step"], head["parent_id"], head["is_full"]) == (last, place["step"], None, True)
    assert set(head["next_nodes"]) == set(place["next_nodes"])


async def test_a_patch_runs_anew_what_follows_and_nothing_else(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    def sum_of(name: str, *sources: str) -> dict[str, Any]:
        total = " + ".join(["1", *(f"{source}.output" for source in sources)])
        return {"id": name, "type": "tick", "config": {"output": f"{{{{ {total} }}}}"}}

    spec = {
        "nodes": [
            *[sum_of("a"), sum_of("b", "a"), sum_of("c", "a"), sum_of("d", "b", "c"), sum_of("e", "c")],
            *[node("end1"), node("end2")],
        ],
        "edges": edges("a>b a>c b>d c>d c>e d>end1 e>end2"),
        "outputs": {"d": "{{ d.output }}", "e": "{{ e.output }}"},
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    await drive(worker, run_id)
    place = (await checkpoints(context.database, run_id))[-1]
    fork = (await derived(context, "forkRun", checkpointId=place["id"], patch={"b": 100}))["id"]
    states = await context.database.pool.fetch(
        "SELECT node_id, status, message FROM node_states WHERE run_id = $1", fork
    )
    assert {row["node_id"]: row["message"] for row in states} == {
        "a": None,
        "b": "Output given by a patch",
        "c": None,
        "e": None,
        "end2": None,
    }
    assert await drive(worker, fork) is RunStatus.COMPLETED
    assert (await told(context.database, fork))[0] == {"d": 103, "e": 3}
    again = (await checkpoints(context.database, fork))[-1]
    second = (await derived(context, "forkRun", checkpointId=again["id"], patch={"c": 10}))["id"]
    assert await drive(worker, second) is RunStatus.COMPLETED
    assert (await told(context.database, second))[0] == {"d": 111, "e": 11}


LOOP: dict[str, Any] = {
    "nodes": [node("s"), node("h", "tick"), node("w"), node("x"), node("z", "tick")],
    "edges": edges("s>h h>w w>h w>x x>z", w_h="w.output < 4", w_x="w.output >= 4"),
}


async def test_a_patch_in_a_loop_takes_back_the_rounds_that_followed_from_it(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, LOOP)
    await drive(worker, run_id)
    places = await checkpoints(context.database, run_id)
    third = [place for place in places if place["next_nodes"] == ["h"]][2]
    fork = (await derived(context, "forkRun", checkpointId=third["id"], patch={"w": 9}))["id"]
    assert await drive(worker, fork) is RunStatus.COMPLETED
    output, visits, _, _ = await told(context.database, fork)
    outputs = await context.database.pool.fetch(
        "SELECT node_id, visit, output FROM node_outputs WHERE run_id = $1 ORDER BY seq", fork
    )
    assert [row["output"] for row in outputs if row["node_id"] == "w"] == [9]
    assert output == {"z": 1}
    assert {name for name, _ in visits} == {"s", "h", "w", "x", "z"}
    assert await context.database.pool.fetchval(
        "SELECT visits FROM node_states WHERE run_id = $1 AND node_id = 'h'", fork
    ) == next(row["visit"] for row in outputs if row["node_id"] == "h")


async def test_a_retry_goes_on_from_the_nodes_that_failed(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    spec = {
        "nodes": [
            node("a"),
            node("b", "tick"),
            {**node("f", "tick"), "type": "flaky"},
            node("c", "tick", 30),
            node("j"),
        ],
        "edges": edges("a>b a>f a>c b>j f>j c>j"),
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    assert await drive(worker, run_id) is RunStatus.FAILED
    FLAKY.is_mended = True
    retry = await derived(context, "retryRun", runId=run_id)
    assert (retry["source"], retry["retryOf"]) == ("RETRY", {"id": run_id})
    assert await drive(worker, retry["id"]) is RunStatus.COMPLETED
    output, visits, numbers, _ = await told(context.database, retry["id"])
    assert (output, set(visits.values())) == ({"j": 1}, {1})
    assert numbers == list(range(1, len(numbers) + 1))
    ran = await context.database.pool.fetch(
        "SELECT node_id FROM events WHERE run_id = $1 AND body->>'status' = 'RUNNING' AND node_id IS NOT NULL",
        retry["id"],
    )
    assert {row["node_id"] for row in ran} == {"f", "c"}
    assert FLAKY.keys == [f"{run_id}/0/f/1", f"{retry['id']}/0/f/1"]


async def test_a_fork_from_where_a_node_failed_the_run_runs_that_node_again(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    spec = {
        "nodes": [node("a"), {**node("f", "tick"), "type": "quick_flaky"}, node("z")],
        "edges": edges("a>f f>z"),
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    assert await drive(worker, run_id) is RunStatus.FAILED
    place = (await checkpoints(context.database, run_id))[-1]["id"]
    still = await derived(context, "forkRun", checkpointId=place)
    assert await drive(worker, still["id"]) is RunStatus.FAILED
    given = await derived(context, "forkRun", checkpointId=place, patch={"f": 1})
    assert await drive(worker, given["id"]) is RunStatus.COMPLETED
    QUICK_FLAKY.is_mended = True
    mended = await derived(context, "forkRun", checkpointId=place)
    assert await drive(worker, mended["id"]) is RunStatus.COMPLETED


async def test_a_fork_goes_step_by_step_from_its_checkpoint_on(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    assert await drive(worker, run_id) is RunStatus.COMPLETED
    place = next(one for one in await checkpoints(context.database, run_id) if one["next_nodes"] == ["b"])
    fork = (await derived(context, "forkRun", checkpointId=place["id"], options={"stepwise": True}))["id"]
    assert await drive(worker, fork) is RunStatus.PAUSED
    head = (await checkpoints(context.database, fork))[-1]
    assert (head["step"], head["next_nodes"]) == (place["step"] + 1, ["c"])


async def test_a_cancelled_run_is_retried_from_what_was_under_way(
    context: Context, redis: Redis, caller: Caller, project: str
) -> None:
    bell = Bell()
    spec = {
        "nodes": [node("a", "tick"), {"id": "bell", "type": "bell", "config": {}}, node("z")],
        "edges": edges("a>bell bell>z"),
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    async with Worker(context.database, redis, node_types(bell)) as worker:
        taken = await worker.take_up(run_id)
        task = asyncio.create_task(taken.run())
        await bell.running.wait()
        await control.cancel_run(context, run_id, None, None)
        taken.request(Stop.CANCEL)
        assert await task is RunStatus.CANCELLED
        retry = (await derived(context, "retryRun", runId=run_id))["id"]
        bell.go_on.set()
        assert await drive(worker, retry) is RunStatus.COMPLETED
    assert (await told(context.database, retry))[1] == {("a", 1): 1, ("bell", 1): 1, ("z", 1): 1}


async def test_a_retry_from_the_start_and_of_a_run_that_did_nothing_are_new_runs(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    assert await drive(worker, run_id) is RunStatus.COMPLETED
    retry = await derived(
        context, "retryRun", runId=run_id, **{"from": "START"}, options={"priority": 7, "breakpoints": ["b"]}
    )
    assert retry["options"] == {"priority": 7, "breakpoints": ["b"]}
    assert await context.database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", retry["id"]) == 1
    await control.cancel_run(context, retry["id"], None, None)
    again = await derived(context, "retryRun", runId=retry["id"])
    assert again["options"] == {"priority": 7, "breakpoints": ["b"]}
    assert await drive(worker, again["id"]) is RunStatus.PAUSED


async def test_what_cannot_be_retried_is_an_invalid_state(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    assert await refused(context, "retryRun", runId=run_id) == [("", "INVALID_STATE")]
    await drive(worker, run_id)
    assert await refused(context, "retryRun", runId=run_id) == [("", "INVALID_STATE")]
    await context.database.pool.execute("UPDATE runs SET status = 'FAILED', pruned_at = now() WHERE id = $1", run_id)
    await context.database.pool.execute("DELETE FROM checkpoints")
    assert await refused(context, "retryRun", runId=run_id) == [("", "INVALID_STATE")]


async def test_a_wait_is_asked_anew_in_a_fork(context: Context, worker: Worker, caller: Caller, project: str) -> None:
    spec = {
        "nodes": [node("a"), {"id": "q", "type": "ask", "config": {"prompt": "?"}}, node("yes"), node("b")],
        "edges": [*edges("a>q a>b"), {"source": "q", "target": "yes", "port": "answered"}],
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    assert await drive(worker, run_id) is RunStatus.WAITING
    place = (await checkpoints(context.database, run_id))[-1]
    fork = (await derived(context, "forkRun", checkpointId=place["id"]))["id"]
    assert await drive(worker, fork) is RunStatus.WAITING
    asked = await context.database.pool.fetch("SELECT run_id FROM waits WHERE settled_seq IS NULL ORDER BY id")
    assert [row["run_id"] for row in asked] == [run_id, fork]
    answered = (await derived(context, "forkRun", checkpointId=place["id"], patch={"q": {"ok": True}}))["id"]
    assert await drive(worker, answered) is RunStatus.COMPLETED
    assert (await told(context.database, answered))[0] == {"yes": 1, "b": 1}


async def test_a_fork_from_a_checkpoint_that_a_rewind_took_back_begins_as_it_stood_then(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    spec = {"nodes": [node(name, "tick") for name in "abcd"], "edges": edges("a>b b>c c>d")}
    run_id = await accept_spec(context.database, caller, project, spec)
    async with asyncio.timeout(20):
        taken = await worker.take_up(run_id, breakpoints=frozenset({"d"}))
        assert await taken.run() is RunStatus.PAUSED
    places = await checkpoints(context.database, run_id)
    taken_back = next(place for place in places if place["next_nodes"] == ["c"])
    earlier = next(place for place in places if place["next_nodes"] == ["b"])
    await control.resume_run(context, run_id, earlier["id"], None)
    assert await drive(worker, run_id) is RunStatus.COMPLETED
    fork = (await derived(context, "forkRun", checkpointId=taken_back["id"]))["id"]
    assert await drive(worker, fork) is RunStatus.COMPLETED
    _, visits, _, _ = await told(context.database, fork)
    assert visits == {(name, 1): 1 for name in "abcd"}
    ran = await context.database.pool.fetch(
        "SELECT node_id FROM events WHERE run_id = $1 AND body->>'status' = 'RUNNING' AND node_id IS NOT NULL", fork
    )
    assert [row["node_id"] for row in ran] == ["c", "d"]


async def test_a_fork_onto_another_version_of_its_workflow_is_checked_first(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    def spec(names: str, text: str, kind: str = "tick", **more: Any) -> dict[str, Any]:
        nodes = [{"id": name, "type": kind, "config": {"output": 1}} for name in names.split()]
        return {"nodes": nodes, "edges": edges(text), **more}

    async def version(of: str, made: Any) -> str:
        saved = await mutate(
            context, "saveDraft", "draft { revision }", workflowId=of, spec=made, expectedRevision=now[of]
        )
        now[of] = saved["draft"]["revision"]
        frozen = await mutate(context, "createVersion", "version { id }", workflowId=of)
        assert frozen["errors"] == []
        return str(frozen["version"]["id"])

    now: dict[str, int] = {}
    workflow = await new_workflow(context, spec("a b", "a>b"))
    other = await new_workflow(context, spec("q", ""), "Another")
    now |= {workflow: 1, other: 1}
    run = (await mutate(context, "runWorkflow", "run { id }", workflowId=workflow, options={"breakpoints": ["b"]}))[
        "run"
    ]
    assert await drive(worker, run["id"]) is RunStatus.PAUSED
    place = (await checkpoints(context.database, run["id"]))[-1]["id"]
    longer = await version(workflow, spec("a b c", "a>b b>c"))
    fork = await derived(context, "forkRun", checkpointId=place, versionId=longer)
    assert await drive(worker, fork["id"]) is RunStatus.COMPLETED
    assert (await told(context.database, fork["id"]))[0] == {"c": 1}

    picky = {"type": "object", "required": ["who"]}
    unfit = await version(workflow, spec("a c", "a>c", "transform", inputs=picky))
    assert sorted(await refused(context, "forkRun", checkpointId=place, versionId=unfit)) == [
        ("input.versionId", "MISSING_NODE"),
        ("input.versionId", "OTHER_TYPE"),
        ("inputs", "REQUIRED"),
    ]
    strange = await version(other, spec("q r", "q>r"))
    assert await refused(context, "forkRun", checkpointId=place, versionId=strange) == [
        ("input.versionId", "OTHER_WORKFLOW")
    ]


async def test_a_patch_that_is_wrong_says_so_and_makes_nothing(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["launched chain"])
    await drive(worker, run_id)
    place = (await checkpoints(context.database, run_id))[1]["id"]
    for patch, problem in (
        ({"nobody": 1}, ("input.patch.nobody", "UNKNOWN_NODE")),
        ({"d": 1}, ("input.patch.d", "NOT_RUN")),
        ([1], ("input.patch", "NOT_AN_OBJECT")),
    ):
        assert await refused(context, "forkRun", checkpointId=place, patch=patch) == [problem]
    assert await refused(context, "forkRun", checkpointId="ckp_01h455vb4pex5vsknk084sn02q") == [("", "NOT_FOUND")]
    wrong = {"breakpoints": ["nobody"]}
    assert await refused(context, "forkRun", checkpointId=place, options=wrong) == [
        ("input.options.breakpoints", "UNKNOWN_NODE")
    ]


async def test_one_key_from_many_callers_makes_one_run(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["launched chain"])
    await drive(worker, run_id)
    place = (await checkpoints(context.database, run_id))[2]["id"]
    forks = await asyncio.gather(
        *(derived(context, "forkRun", checkpointId=place, idempotencyKey="fork") for _ in range(10))
    )
    retries = await asyncio.gather(
        *(derived(context, "retryRun", runId=run_id, **{"from": "START"}, idempotencyKey="retry") for _ in range(10))
    )
    assert (len({run["id"] for run in forks}), len({run["id"] for run in retries})) == (1, 1)
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 3
    assert await refused(context, "forkRun", checkpointId=place, patch={"a": 1}, idempotencyKey="fork") == [
        ("", "CONFLICT")
    ]


async def test_a_viewer_may_not_derive_and_a_stranger_finds_nothing(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    await drive(worker, run_id)
    place = (await checkpoints(context.database, run_id))[0]["id"]
    for roles, code in (({project: Role.VIEWER}, "FORBIDDEN"), ({}, "NOT_FOUND")):
        context.caller = Caller("other", roles)
        assert await refused(context, "forkRun", checkpointId=place) == [("", code)]
        assert await refused(context, "retryRun", runId=run_id) == [("", code)]


async def test_a_follower_of_a_derived_run_sees_every_number(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["launched chain"])
    await drive(worker, run_id)
    place = (await checkpoints(context.database, run_id))[-2]["id"]
    fork = (await derived(context, "forkRun", checkpointId=place))["id"]
    seen: list[int] = []

    async def follow() -> None:
        async for event in context.feed.follow(fork, 0):
            seen.append(event.seq)

    following = asyncio.create_task(follow())
    await until(lambda: seen)
    await drive(worker, fork)
    await asyncio.wait_for(following, 10)
    assert seen == list(range(1, len(seen) + 1))
