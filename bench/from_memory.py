"""Baseline C: Strawberry under uvicorn with the response of row 11 from memory, without a database.

Usage: `python -m bench.from_memory PORT`.
"""

import sys
from datetime import UTC, datetime

import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from strawberry.asgi import GraphQL

NOW = datetime.now(UTC)


@strawberry.type(name="NodeState")
class MemoryNodeState:
    node_id: strawberry.ID
    label: str
    type: str
    status: str
    visits: int
    attempt: int
    started_at: datetime
    completed_at: datetime
    duration_ms: float
    seq: int


@strawberry.type(name="Run")
class MemoryRun:
    id: strawberry.ID
    status: str
    progress: float
    source: str
    attempt: int
    mode: str
    created_by: str
    created_at: datetime
    started_at: datetime
    finished_at: datetime
    node_states: list[MemoryNodeState]


@strawberry.type(name="Runs")
class MemoryRuns:
    nodes: list[MemoryRun]


def _state(number: int) -> MemoryNodeState:
    name = strawberry.ID(f"n{number}")
    return MemoryNodeState(
        node_id=name,
        label=name,
        type="transform",
        status="COMPLETED",
        visits=1,
        attempt=1,
        started_at=NOW,
        completed_at=NOW,
        duration_ms=0.1,
        seq=number,
    )


def _run(number: int) -> MemoryRun:
    return MemoryRun(
        id=strawberry.ID(f"run_{number:026d}"),
        status="COMPLETED",
        progress=1.0,
        source="MANUAL",
        attempt=1,
        mode="SYNC",
        created_by="local",
        created_at=NOW,
        started_at=NOW,
        finished_at=NOW,
        node_states=[_state(index) for index in range(10)],
    )


STORED = [_run(number) for number in range(50)]


@strawberry.type
class MemoryQuery:
    @strawberry.field
    def runs(self, first: int = 25) -> MemoryRuns:
        return MemoryRuns(nodes=STORED[:first])


if __name__ == "__main__":
    endpoint: GraphQL[None, None] = GraphQL(strawberry.Schema(MemoryQuery), graphql_ide=None)
    application = Starlette(routes=[Route("/graphql", endpoint)])
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
