"""Requests begin in turns by address, so that a flood of one address delays others little."""

import asyncio
from time import thread_time

from starlette.types import Receive, Scope, Send

from app.server.connection_limits import SLICE_S, RequestTurns

FLOOD = 40


async def nothing(*_: object) -> None:
    """Receive and send nothing."""


async def test_the_first_request_of_an_address_overtakes_the_flood_of_another() -> None:
    begun: list[str] = []

    async def work(scope: Scope, _: Receive, __: Send) -> None:
        begun.append(scope["client"][0])
        until = thread_time() + SLICE_S
        while thread_time() < until:
            pass

    app = RequestTurns(work)

    async def request(address: str) -> None:
        await app({"type": "http", "client": (address, 1)}, nothing, nothing)  # type: ignore[arg-type]

    async with asyncio.TaskGroup() as group:
        for _ in range(FLOOD):
            group.create_task(request("flood"))
        group.create_task(request("other"))
    assert len(begun) == FLOOD + 1
    assert begun.index("other") <= 3


async def test_a_pass_of_the_event_loop_begins_requests_of_one_slice() -> None:
    passes: list[int] = [0]
    in_pass: list[int] = []

    async def work(*_: object) -> None:
        in_pass.append(passes[0])
        until = thread_time() + SLICE_S / 4
        while thread_time() < until:
            pass

    app = RequestTurns(work)
    requests = [asyncio.ensure_future(app({"type": "http"}, nothing, nothing)) for _ in range(FLOOD)]  # type: ignore[arg-type]
    while not all(request.done() for request in requests):
        await asyncio.sleep(0)
        passes[0] += 1
    assert len(in_pass) == FLOOD
    assert max(map(in_pass.count, in_pass)) <= 5
