"""Node states, `Checkpoint.state` and `Checkpoint.evaluate` agree wherever a run stops, and nothing runs twice."""

import json
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from engine.graph.plan import make_plan
from engine.spec.parser import parse
from tests.end_to_end.support.client_actions import PAYLOAD, mutate, wait_for_status
from tests.end_to_end.support.system import CANCEL, SystemUnderTest
from tests.engine.graph.program_generator import draw_program
from tests.engine.graph.program_graph import graph_of
from tests.engine.graph.program_interpreter import Interpreter
from tests.engine.graph.programs import Step, all_statements
from tests.peers.http import Peer

LAST = """query ($id: ID!, $text: String!) { run(id: $id) { status nodeStates { nodeId status output }
    checkpoints(first: 1) { nodes { id state evaluate(expression: $text) { value errors { message } } } } } }"""
VISITS = """query ($id: ID!, $after: Int) { run(id: $id) { events(first: 1000, after: $after) { lastSeq hasMore
    nodes { seq ... on NodeStateChanged { nodeState { nodeId status visits output } } } } } }"""
SEEDS = (11, 29, 47, 83)


def program_spec(seed: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return the spec of a random program in which some nodes are tasks, and the outputs by node and visit.

    Validation refuses a node that reads another one which cannot have run, or itself outside of a
    loop. So the nodes read nothing but themselves.
    """
    program, _ = draw_program(seed, 12)
    for step in all_statements(program):
        if isinstance(step, Step):
            step.reads = []
    interpreter, spec, random = Interpreter(), graph_of(program), Random(seed)
    interpreter.run(program)
    plan = make_plan(parse(spec))
    for node in spec["nodes"]:
        if random.random() < 0.5:
            node["timeoutS"] = 60  # a node with a time limit is no inline node
        output = node["config"].get("output", {})
        if "v" in output:
            output["v"] = output["v"].replace("fromjson('!')", "('!' | fromjson)")
            if not plan.nodes[node["id"]].loops:
                before = f"({node['id']}.last_output.v if {node['id']}.last_output is not none else 0)"
                output["v"] = output["v"].replace(before, "0")
    return spec, interpreter.outputs


async def check_last_checkpoint(system: SystemUnderTest, run_id: str, names: list[str]) -> str:
    """Compare the states of the nodes with the last checkpoint, and return its id."""
    text = f"[{', '.join(f'[{name}.status, {name}.output]' for name in names)}]"
    run = (await system.execute(LAST, id=run_id, text=text))["run"]
    [checkpoint] = run["checkpoints"]["nodes"]
    assert checkpoint["evaluate"]["errors"] == []
    evaluated = dict(zip(names, checkpoint["evaluate"]["value"], strict=True))
    states = {state["nodeId"]: state for state in run["nodeStates"]}
    for name in names:
        status, output = states[name]["status"], states[name]["output"]
        if status in ("COMPLETED", "FAILED"):
            assert evaluated[name] == [status, output], name
            assert checkpoint["state"].get(name) == output, name
        elif status in ("SKIPPED", "CANCELLED"):
            assert output is None, name
            # The checkpoint of a run that was cancelled without a worker is older than the cancel.
            assert evaluated[name] in ([status, None], ["WAITING", None]), name
    return str(checkpoint["id"])


async def outputs_of(system: SystemUnderTest, run_id: str) -> dict[str, list[Any]]:
    """Return the outputs of each node by visit, and check that each visit has ended once."""
    ended: Counter[tuple[str, int]] = Counter()
    outputs: dict[str, list[Any]] = {}
    after = 0
    previous: dict[str, str] = {}
    while True:
        page = (await system.execute(VISITS, id=run_id, after=after))["run"]["events"]
        for state in (event["nodeState"] for event in page["nodes"] if "nodeState" in event):
            before, previous[state["nodeId"]] = previous.get(state["nodeId"]), state["status"]
            # The end of a loop shows the latest visit of a skipped node again. That is not a visit.
            if state["status"] in ("COMPLETED", "FAILED") and before != "SKIPPED":
                ended[state["nodeId"], state["visits"]] += 1
                is_error = isinstance(state["output"], dict) and "error" in state["output"]
                outputs.setdefault(state["nodeId"], []).append(None if is_error else state["output"])
        if not page["hasMore"]:
            break
        after = page["lastSeq"]
    assert set(ended.values()) == {1}
    return outputs


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("by_checkpoint", [False, True], ids=["stepRun", "resumeRun with the checkpoint"])
async def test_a_program_in_steps(system: SystemUnderTest, seed: int, by_checkpoint: bool) -> None:
    spec, expected = program_spec(seed)
    names = [node["id"] for node in spec["nodes"]]
    run_id = (await system.run(spec, mode="SYNC", options={"stepwise": True}))["run"]["id"]
    while (await system.read(run_id))["status"] == "PAUSED":
        checkpoint_id = await check_last_checkpoint(system, run_id, names)
        if by_checkpoint:
            assert (await mutate(system, "resumeRun", runId=run_id, checkpointId=checkpoint_id))["errors"] == []
            await wait_for_idle(system, run_id)
            continue
        stepped = await mutate(system, "stepRun", PAYLOAD + " checkpoint { id }", runId=run_id, timeoutMs=20_000)
        assert stepped["errors"] == []
        if stepped["run"]["status"] == "PAUSED":
            assert stepped["checkpoint"]["id"] == await check_last_checkpoint(system, run_id, names)
    await check_last_checkpoint(system, run_id, names)
    outputs = await outputs_of(system, run_id)
    outputs.pop("end", None)
    assert (await system.read(run_id))["status"] == "COMPLETED"
    assert outputs == expected


async def wait_for_idle(system: SystemUnderTest, run_id: str) -> None:
    idle = {"PAUSED", "COMPLETED", "FAILED", "CANCELLED", "WAITING"}
    query = "subscription ($id: ID!) { runEvents(runId: $id, after: 0) { seq ... on RunStatusChanged { status } } }"
    async for event in system.subscribe(query, id=run_id):
        if event["runEvents"].get("status") in idle and (await system.read(run_id))["status"] in idle:
            return


FIRST = {"id": "first", "type": "llm", "config": {"model": "treadle/echo", "prompt": "hello"}}
CALL = {"id": "call", "type": "http", "config": {"url": "{{ input.peer }}/echo"}}
HANG = {"id": "hang", "type": "http", "config": {"url": "{{ input.peer }}/hang"}}
FAIL = {"id": "fails", "type": "http", "config": {"url": "{{ input.peer }}/status?code=404"}}
ASK = {"id": "ask", "type": "human", "config": {"prompt": "?"}}


def chain(*nodes: dict[str, Any]) -> dict[str, Any]:
    ids = [node["id"] for node in nodes]
    return {
        "nodes": list(nodes),
        "edges": [{"source": s, "target": t} for s, t in pairwise(ids)],
    }


async def test_the_last_checkpoint_of_a_completed_run_with_a_model_or_a_call_at_its_end(
    system: SystemUnderTest, peer: Peer
) -> None:
    for nodes in ((CALL, FIRST), (FIRST, CALL), (FIRST,)):
        started = await system.run(chain(*nodes), {"peer": peer.url})
        assert started["run"]["status"] == "COMPLETED"
        await check_last_checkpoint(system, started["run"]["id"], [node["id"] for node in nodes])


async def test_the_last_checkpoint_of_a_failed_run(system: SystemUnderTest, peer: Peer) -> None:
    started = await system.run(chain(FIRST, FAIL), {"peer": peer.url})
    assert started["run"]["status"] == "FAILED"
    await check_last_checkpoint(system, started["run"]["id"], ["first", "fails"])


async def test_the_last_checkpoint_of_a_cancelled_run(system: SystemUnderTest, peer: Peer) -> None:
    run_id = (await system.run(chain(CALL, FIRST, HANG), {"peer": peer.url}, mode="ASYNC"))["run"]["id"]
    await system.wait_for_node(run_id, "hang", "RUNNING")
    await system.execute(CANCEL, id=run_id)
    assert (await system.wait_for_end(run_id))["status"] == "CANCELLED"
    await check_last_checkpoint(system, run_id, ["call", "first", "hang"])


async def test_the_last_checkpoint_of_a_run_that_is_cancelled_while_it_waits(
    system: SystemUnderTest, peer: Peer
) -> None:
    run_id = (await system.run(chain(CALL, ASK), {"peer": peer.url}, mode="ASYNC"))["run"]["id"]
    await wait_for_status(system, run_id, "WAITING")
    await check_last_checkpoint(system, run_id, ["call", "ask"])
    await system.execute(CANCEL, id=run_id)
    assert (await system.wait_for_end(run_id))["status"] == "CANCELLED"
    await check_last_checkpoint(system, run_id, ["call", "ask"])


async def test_the_checkpoint_of_a_pause_beside_a_loop(system: SystemUnderTest, peer: Peer) -> None:
    """The pause waits for the node that runs. What has finished meanwhile is in the checkpoint."""
    spec = {
        "nodes": [
            {"id": "n", "type": "transform", "config": {"output": "{{ (n.last_output or 0) + 1 }}"}},
            {
                "id": "c",
                "type": "code",
                "config": {"code": "def process(n):\n    return n\n", "input_mapping": {"n": "{{ n.output }}"}},
            },
            {"id": "end", "type": "end", "config": {"output": "{{ c.output }}"}},
        ],
        "edges": [
            {"source": "n", "target": "c"},
            {"source": "c", "target": "n", "condition": "c.output < 40"},
            {"source": "c", "target": "end", "condition": "c.output >= 40"},
        ],
    }
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    pauses = 0
    for _ in range(4):
        await system.wait_for_node(run_id, "c", "COMPLETED")
        paused = await mutate(system, "pauseRun", PAYLOAD + " checkpoint { id }", runId=run_id, timeoutMs=20_000)
        if (paused["run"] or {}).get("status") != "PAUSED":
            break  # it has ended
        pauses += 1
        assert paused["checkpoint"]["id"] == await check_last_checkpoint(system, run_id, ["n", "c", "end"])
        resumed = await mutate(system, "resumeRun", runId=run_id, checkpointId=paused["checkpoint"]["id"])
        assert resumed["errors"] == []
    assert pauses > 0
    run = await system.wait_for_end(run_id)
    assert (run["status"], run["output"]) == ("COMPLETED", 40)
    outputs = await outputs_of(system, run_id)
    assert outputs["n"] == outputs["c"] == list(range(1, 41)), json.dumps(outputs)
