"""Long pieces of work on the event loop take turns, and leave every pass of it to others."""

import asyncio
from time import thread_time

from engine.isolation.loop_share import SLICE_S, in_turns, loop_share
from engine.isolation.turns import Owner, working_for


def burn(seconds: float) -> None:
    until = thread_time() + seconds
    while thread_time() < until:
        pass


async def long_work(done: list[str], name: str, steps: int) -> None:
    async for _ in in_turns(range(steps)):
        burn(SLICE_S / 4)
        done.append(name)


async def test_several_long_pieces_of_work_take_turns_and_others_run_between_them() -> None:
    done: list[str] = []
    works = [asyncio.ensure_future(long_work(done, name, 20)) for name in "abc"]
    passes = 0
    while not all(work.done() for work in works):
        before = thread_time()
        await asyncio.sleep(0)
        assert thread_time() - before < 10 * SLICE_S
        passes += 1
    # 60 steps of a quarter of a slice: one pass runs only a few of them.
    assert passes >= 10
    assert {name: done.count(name) for name in "abc"} == {"a": 20, "b": 20, "c": 20}
    assert max(done.index(name) for name in "abc") < 40


async def test_short_work_never_waits() -> None:
    share = loop_share()
    order: list[str] = []
    asyncio.get_running_loop().call_soon(order.append, "next pass")
    await share.turn()
    order.append("work")
    assert order == ["work"]


async def test_a_cancelled_waiter_does_not_stop_the_others() -> None:
    done: list[str] = []
    burn(0)
    works = [asyncio.ensure_future(long_work(done, name, 8)) for name in "abcd"]
    await asyncio.sleep(0)
    works[1].cancel()
    await asyncio.gather(*works, return_exceptions=True)
    assert {name: done.count(name) for name in "acd"} == {"a": 8, "c": 8, "d": 8}


async def test_a_project_does_not_wait_behind_all_work_of_another_one() -> None:
    done: list[str] = []
    with working_for(Owner("crowd", "a run")):
        crowd = [asyncio.ensure_future(long_work(done, "crowd", 4)) for _ in range(300)]
    await asyncio.sleep(0)  # All of them are under way.
    with working_for(Owner("other", "a run")):
        await asyncio.ensure_future(long_work(done, "other", 20))
    # It waited for a slice of the others between two slices of its own, and not for all 1,200 steps.
    assert done.count("other") == 20
    assert done.count("crowd") < 200
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
