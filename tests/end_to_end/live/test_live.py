"""Subscribers receive a snapshot, every change in order and the end, and resume from any `seq`."""

from typing import Any

from tests.end_to_end.support.system import SystemUnderTest

SPEC: dict[str, Any] = {
    "nodes": [
        {"id": "s", "type": "start"},
        {"id": "a", "type": "delay", "config": {"seconds": 1}},
        {"id": "a2", "type": "transform", "config": {"output": 1}},
        {"id": "b", "type": "transform", "config": {"output": 1}},
        {"id": "b2", "type": "delay", "config": {"seconds": 0.05}},
        {"id": "b3", "type": "transform", "config": {"output": "{{ b.output + 1 }}"}},
    ],
    "edges": [
        {"source": "s", "target": "a"},
        {"source": "a", "target": "a2"},
        {"source": "s", "target": "b"},
        {"source": "b", "target": "b2"},
        {"source": "b2", "target": "b3"},
    ],
}


async def test_a_slow_branch_does_not_delay_another_branch(system: SystemUnderTest) -> None:
    answer = await system.run(SPEC, mode="ASYNC")
    done = []
    async for update in system.node_states(answer["run"]["id"]):
        state = update["nodeState"]
        if state and state["status"] == "COMPLETED" and state["nodeId"] not in done:
            done.append(state["nodeId"])
    assert done.index("b3") < done.index("a") < done.index("a2")
    assert update["runStatus"] == "COMPLETED"
    assert update["progress"] == 1.0


async def test_a_reconnect_at_any_seq_misses_and_repeats_nothing(system: SystemUnderTest) -> None:
    run_id = (await system.run(SPEC, mode="SYNC"))["run"]["id"]
    run = await system.read(run_id)
    numbers = [event["seq"] for event in run["events"]["nodes"]]
    assert numbers == list(range(1, run["lastSeq"] + 1))
    for after in range(0, run["lastSeq"], 3):
        received = [update["seq"] async for update in system.node_states(run_id, after) if not update["snapshot"]]
        assert received == sorted(set(received))
        assert all(number > after for number in received)
