"""Heavy work of one project waits in turn, and never on the event loop."""

import asyncio
import random
from collections import Counter
from time import perf_counter

import pytest

from engine.errors import NodeFailure
from engine.expressions.evaluator import ExpressionError, render
from engine.isolation import suspension
from engine.isolation.suspension import suspendable
from engine.isolation.turns import FairQueue, Owner, QueueFull, working_for
from tests.engine.node_runner import NodeHarness
from tests.hostile.loop_lag import longest_block

ENDLESS = "{% for i in range(90000) %}{{ range(100000) | sum }}{% endfor %}"
CHEAP = "{% for i in range(2) %}{{ i }}{% endfor %}"


def take_all(queue: FairQueue[str]) -> list[str]:
    taken = []
    while (pair := queue.take()) is not None:
        taken.append(pair[1])
        queue.give_back(pair[0])
    return taken


def test_projects_take_turns_and_so_do_the_callers_of_a_project() -> None:
    queue = FairQueue[str](1)
    for project, caller in ["aa", "aa", "aa", "ab", "bc", "bc"]:
        queue.put(Owner(project, caller), project + caller)
    assert take_all(queue) == ["aa", "bc", "ab", "bc", "aa", "aa"]


def test_a_project_never_holds_more_than_its_share() -> None:
    queue = FairQueue[str](2)
    for item in ("a1", "a2", "a3", "b1"):
        queue.put(Owner(item[0]), item)
    assert [queue.take(), queue.take(), queue.take(), queue.take()] == [("a", "a1"), ("b", "b1"), ("a", "a2"), None]
    queue.give_back("a")
    assert queue.take() == ("a", "a3")


def test_a_caller_may_fill_only_its_own_limit() -> None:
    queue = FairQueue[str](1)
    queue.put(Owner("a", "x", 1), "1")
    with pytest.raises(QueueFull):
        queue.put(Owner("a", "x", 1), "2")
    queue.put(Owner("a", "y", 1), "3")
    queue.put(Owner("b", "x", 1), "4")
    assert queue.count("a") == 2


@pytest.mark.parametrize("seed", range(50))
def test_nothing_is_lost_and_nobody_waits_for_more_than_one_item_of_each_other(seed: int) -> None:
    """Random puts, takes, removals and returns against a model."""
    rng, queue, share = random.Random(seed), FairQueue[int](2), 2
    waiting: list[tuple[Owner, int]] = []
    taken: list[str] = []
    overtaken: dict[int, Counter[str]] = {}
    for number in range(300):
        match rng.randrange(4):
            case 0 | 1:
                owner = Owner(rng.choice("abc"), rng.choice("xy"))
                queue.put(owner, number)
                waiting.append((owner, number))
                overtaken[number] = Counter()
            case 2 if waiting and rng.random() < 0.3:
                owner, item = waiting.pop(rng.randrange(len(waiting)))
                queue.remove(owner, item)
            case _ if taken and rng.random() < 0.4:
                queue.give_back(taken.pop(rng.randrange(len(taken))))
            case _:
                pair = queue.take()
                free = [owner for owner, _ in waiting if taken.count(owner.project) < share]
                assert (pair is None) == (not free)
                if pair is None:
                    continue
                project, item = pair
                position = next(index for index, (_, other) in enumerate(waiting) if other == item)
                owner, _ = waiting.pop(position)
                assert owner.project == project and taken.count(project) < share
                assert all(other != owner for other, _ in waiting[:position]), "a caller's items stay in order"
                taken.append(project)
    assert sum(queue.count(project) for project in "abc") == len(waiting)


async def heavy(template: str, project: str) -> str:
    with working_for(Owner(project, "run")):
        try:
            return str(await suspension.call(render, template, {}))
        except ExpressionError as error:
            return error.message


async def test_endless_templates_of_one_project_neither_block_the_loop_nor_delay_another_project() -> None:
    await asyncio.gather(*(heavy(CHEAP, project) for project in "abcdefgh"))  # starts the processes
    alone = perf_counter()
    await heavy(ENDLESS, "victim")
    one_s = perf_counter() - alone
    attack = asyncio.gather(*(heavy(ENDLESS, "attacker") for _ in range(6)))
    await asyncio.sleep(0)
    started_at = perf_counter()
    result, blocked_s = await longest_block(heavy(CHEAP, "victim"))
    waited_s = perf_counter() - started_at
    assert result == "01" and not attack.done()
    assert blocked_s < max(0.25, one_s / 2)
    assert waited_s < max(0.25, one_s), "one process is free for other projects"
    attack.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attack


async def test_a_node_with_a_heavy_template_does_not_block_the_loop_and_can_be_cancelled() -> None:
    harness = NodeHarness({})
    task = asyncio.ensure_future(suspendable(harness.run("transform", {"output": ENDLESS})))
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(NodeFailure, match="CPU time"):
        await suspendable(NodeHarness({}).run("transform", {"output": ENDLESS}))


async def test_a_suspendable_coroutine_behaves_as_without_it() -> None:
    async def work(value: int) -> int:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        if value == 3:
            raise KeyError(value)
        inner = await suspendable(work(value - 1)) if value else 0
        return inner + (await asyncio.gather(*(suspendable(double(n)) for n in range(value)))).__len__()

    async def double(value: int) -> int:
        return await suspension.call(lambda: value * 2)

    assert await suspendable(work(2)) == 3
    with pytest.raises(KeyError):
        await suspendable(work(3))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await suspendable(asyncio.sleep(60))
