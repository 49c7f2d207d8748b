"""Attacks of one project on what all projects share: the queue, the slots of workers, and the disk."""

import asyncio
from collections import Counter
from typing import Any

from tests.hostile.deployment import OWN, QUEUE_LIMIT, AttackedDeployment
from tests.hostile.report import AttackResult, codes

RUN = "mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) { run { id } errors { code } } }"
CANCEL = "mutation ($id: ID!) { cancelRun(input: {runId: $id}) { errors { code } } }"
ENDLESS_CODE = {"id": "a", "type": "code", "config": {"code": "def process():\n    while True: pass", "timeoutS": 3600}}
HELD_S = 3.0
"""Seconds for which a flood goes on after its last run was accepted."""
LARGE = {
    "id": "a",
    "type": "map",
    "config": {"items": "{{ range(60) | list }}", "node": {"type": "transform", "config": {"output": "{{ 'x' * 100000 }}"}}},
}  # fmt: skip


async def flood_the_queue(target: AttackedDeployment) -> AttackResult:
    """Start more endless runs than may wait, so that they take all slots of the worker and fill the queue."""
    return await _flood(target, {"nodes": [ENDLESS_CODE], "edges": []}, QUEUE_LIMIT + 80)


async def flood_with_quick_runs(target: AttackedDeployment) -> AttackResult:
    """Start 600 runs of one node as fast as possible."""
    return await _flood(
        target, {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}, 600
    )


async def run_many_nodes(target: AttackedDeployment) -> AttackResult:
    """Run chains of 900 inline nodes, and 900 nodes beside each other, ten times."""
    transform = {"type": "transform", "config": {"output": "{{ input.a | default(1) }}"}}
    nodes = [{"id": f"n{i}", **transform} for i in range(900)]
    chain = {"nodes": nodes, "edges": [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(899)]}
    wide = {"nodes": nodes, "edges": []}
    calls = [{"spec": spec, "mode": "SYNC", "timeoutMs": 30_000} for spec in [chain, wide] * 5]
    return AttackResult(codes(await asyncio.gather(*(target.execute(RUN, input=call) for call in calls))))


async def write_large_values(target: AttackedDeployment) -> AttackResult:
    """Run maps whose outputs have 6 MB, 20 at once, so that the journal and the disk are busy."""
    calls = [{"spec": {"nodes": [LARGE], "edges": []}, "mode": "SYNC", "timeoutMs": 30_000}] * 20
    return AttackResult(codes(await asyncio.gather(*(target.execute(RUN, input=call) for call in calls))))


async def _flood(target: AttackedDeployment, spec: Any, count: int) -> AttackResult:
    """Start runs 20 at a time, wait while they are held, and cancel those that were accepted."""
    limit = asyncio.Semaphore(20)

    async def execute(query: str, **variables: Any) -> Any:
        async with limit:
            return await target.execute(query, **variables)

    answers = await asyncio.gather(
        *(execute(RUN, input={"spec": spec, "mode": "ASYNC", "projectId": OWN}) for _ in range(count))
    )
    await asyncio.sleep(HELD_S)
    runs = [run["id"] for answer in answers if (run := answer["data"]["runAdhoc"]["run"]) is not None]
    await asyncio.gather(*(execute(CANCEL, id=run) for run in runs))
    return AttackResult(codes(answers) + Counter({"accepted": len(runs)}))
