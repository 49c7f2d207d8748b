"""Forks with a patch execute again only the nodes that depend on the patched outputs."""

from typing import Any

from engine.states import RunStatus
from persistence.caller import Caller
from resolvers.context import Context
from tests.executor_worker import ExecutorWorker, accept_spec, all_checkpoints, edges, node, run_summary
from tests.resolvers.runs.derive.derived_runs import derived, execute, refused
from tests.worker.spec_samples import SPECS


async def test_a_patch_executes_only_the_dependent_nodes_again(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
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
    await execute(worker, run_id)
    row = (await all_checkpoints(context.database, run_id))[-1]
    fork = (await derived(context, "forkRun", checkpointId=row.id, patch={"b": 100}))["id"]
    states = await context.database.pool.fetch(
        "SELECT node_id, status, message FROM node_states WHERE run_id = $1", fork
    )
    assert {row["node_id"]: row["message"] for row in states} == {
        "a": None,
        "b": "The patch of the fork set this output",
        "c": None,
        "e": None,
        "end2": None,
    }
    assert await execute(worker, fork) is RunStatus.COMPLETED
    assert (await run_summary(context.database, fork))[0] == {"d": 103, "e": 3}
    again = (await all_checkpoints(context.database, fork))[-1]
    second = (await derived(context, "forkRun", checkpointId=again.id, patch={"c": 10}))["id"]
    assert await execute(worker, second) is RunStatus.COMPLETED
    assert (await run_summary(context.database, second))[0] == {"d": 111, "e": 11}


LOOP: dict[str, Any] = {
    "nodes": [node("s"), node("h", "tick"), node("w"), node("x"), node("z", "tick")],
    "edges": edges("s>h h>w w>h w>x x>z", w_h="w.output < 4", w_x="w.output >= 4"),
}


async def test_a_patch_in_a_loop_invalidates_the_later_rounds(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, LOOP)
    await execute(worker, run_id)
    rows = await all_checkpoints(context.database, run_id)
    third = [row for row in rows if row.next_nodes == ["h"]][2]
    fork = (await derived(context, "forkRun", checkpointId=third.id, patch={"w": 9}))["id"]
    assert await execute(worker, fork) is RunStatus.COMPLETED
    output, visits, _, _ = await run_summary(context.database, fork)
    outputs = await context.database.pool.fetch(
        "SELECT node_id, visit, output FROM node_outputs WHERE run_id = $1 ORDER BY seq", fork
    )
    assert [row["output"] for row in outputs if row["node_id"] == "w"] == [9]
    assert output == {"z": 1}
    assert {name for name, _ in visits} == {"s", "h", "w", "x", "z"}
    assert await context.database.pool.fetchval(
        "SELECT visits FROM node_states WHERE run_id = $1 AND node_id = 'h'", fork
    ) == next(row["visit"] for row in outputs if row["node_id"] == "h")


async def test_an_invalid_patch_is_refused_and_creates_no_run(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["launched chain"])
    await execute(worker, run_id)
    checkpoint_id = (await all_checkpoints(context.database, run_id))[1].id
    for patch, problem in (
        ({"absent": 1}, ("input.patch.absent", "UNKNOWN_NODE")),
        ({"d": 1}, ("input.patch.d", "NOT_RUN")),
        ([1], ("input.patch", "NOT_AN_OBJECT")),
    ):
        assert await refused(context, "forkRun", checkpointId=checkpoint_id, patch=patch) == [problem]
    assert await refused(context, "forkRun", checkpointId="ckp_01h455vb4pex5vsknk084sn02q") == [("", "NOT_FOUND")]
    options = {"breakpoints": ["absent"]}
    assert await refused(context, "forkRun", checkpointId=checkpoint_id, options=options) == [
        ("input.options.breakpoints", "UNKNOWN_NODE")
    ]
