"""No client loses or doubles an event of a run while the server and Redis are killed."""

import asyncio
from pathlib import Path
from typing import Any

from clients.build import build
from tests.end_to_end.support.interruptions import fragile_system, interrupt, started
from tests.end_to_end.support.typescript import report
from treadle.client import AsyncClient, Client, RunUpdateData, RunView
from treadle.client.run_watch import NUMBERED

NUMBERED_OR_FIRST = (*NUMBERED, "RunSnapshot")
WITH_NODE = (("websocket",), ("sse",), ("auto", "1"))
"""Transport and `after` of each TypeScript client."""
END = {"status": "COMPLETED", "progress": 1.0, "nodes": {"COMPLETED"}, "edges": {"TAKEN"}}


async def watch_async(url: str, run_id: str, after: int | None) -> dict[str, Any]:
    async with AsyncClient(url) as client:
        return shown([update async for update in client.watch_run(run_id, after=after)])


def watch_sync(url: str, run_id: str) -> dict[str, Any]:
    with Client(url) as client:
        return shown(list(client.watch_run(run_id)))


def shown(updates: list[RunUpdateData]) -> dict[str, Any]:
    """Return the updates, and the view that follows from them."""
    view = RunView()
    for update in updates:
        view.apply(update)
    return {
        "updates": [(update.typename, update.seq) for update in updates],
        "status": view.status,
        "seq": view.seq,
        "progress": view.progress,
        "nodes": [state.status for state in view.nodes.values()],
        "edges": [state.status for state in view.edges.values()],
    }


async def test_no_event_is_lost_or_doubled_while_server_and_redis_are_killed(database_url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(build)
    async with fragile_system(database_url, tmp_path) as fragile, asyncio.TaskGroup() as tasks:
        run_id = await started(fragile.url)
        watches = [
            tasks.create_task(watch_async(fragile.url, run_id, None)),
            tasks.create_task(watch_async(fragile.url, run_id, 1)),
            tasks.create_task(asyncio.to_thread(watch_sync, fragile.url, run_id)),
            *(tasks.create_task(report("tests/watch.mjs", fragile.url, run_id, *options)) for options in WITH_NODE),
        ]
        seqs = await interrupt(fragile, run_id)
        for watch in watches:
            view = await watch
            received = [seq for name, seq in view["updates"] if name in NUMBERED_OR_FIRST]
            assert received == seqs[received[0] - 1 :]
            assert view["seq"] == seqs[-1]
            if view["updates"][0][0] == "RunSnapshot":
                assert {**view, "nodes": set(view["nodes"]), "edges": set(view["edges"])}.items() >= END.items()
