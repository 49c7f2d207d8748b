"""Slots: no interleaving of requests, cancels and ends loses a slot or a wake-up."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.isolation.turns import FairSlots, Owner, QueueFull, working_for

COUNT, SHARE = 3, 2
PLACES = st.integers(0, 200)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.sampled_from("ab"), st.sampled_from("xy"), st.booleans()),
        st.tuples(st.just("cancel"), PLACES),
        st.tuples(st.just("end"), PLACES),
        st.tuples(st.just("end and cancel"), PLACES, PLACES),
        st.tuples(st.just("pass"), st.integers(1, 3)),
    ),
    max_size=60,
)


class User:
    """Work that requests a slot, and holds it until its end or its cancel."""

    def __init__(self, slots: FairSlots, owner: Owner) -> None:
        self.project, self.is_holding, self.ends = owner.project, False, asyncio.Event()
        with working_for(owner):
            self.task = asyncio.create_task(self._use(slots))

    async def _use(self, slots: FairSlots) -> None:
        async with slots.slot():
            self.is_holding = True
            try:
                await self.ends.wait()
            finally:
                self.is_holding = False


def check(slots: FairSlots, users: list[User]) -> None:
    """Check what holds in every state."""
    held = Counter(user.project for user in users if user.is_holding)
    assert held.total() <= slots.busy <= COUNT
    assert max(held.values(), default=0) <= SHARE


async def settle(slots: FairSlots, users: list[User]) -> None:
    """Let everything happen that may happen, and check that nobody waits beside a slot that is free for it."""
    for _ in range(6):
        await asyncio.sleep(0)
    held = Counter(user.project for user in users if user.is_holding)
    waiting = Counter(user.project for user in users if not user.is_holding and not user.task.done())
    assert slots.busy == held.total(), "a slot is lost"
    assert slots.waiting == waiting.total(), "the queue has an item of nobody"
    if held.total() < COUNT:
        assert all(held[project] == SHARE for project in waiting), "somebody waits, and a slot is free"


async def play(steps: list[tuple[Any, ...]]) -> None:
    slots, users = FairSlots(COUNT, SHARE), list[User]()
    for name, *arguments in steps:
        living = [user for user in users if not user.task.done()]
        if name == "request":
            project, caller, is_limited = arguments
            users.append(User(slots, Owner(project, caller, 2 if is_limited else None)))
        elif name == "pass":
            for _ in range(arguments[0]):
                await asyncio.sleep(0)
        elif living:
            chosen = [living[place % len(living)] for place in arguments]
            if name != "cancel":
                chosen[0].ends.set()
            if name != "end":
                chosen[-1].task.cancel()
        check(slots, users)
    await settle(slots, users)
    for user in users:
        user.ends.set()
    results = await asyncio.wait_for(asyncio.gather(*(user.task for user in users), return_exceptions=True), 20)
    assert all(result is None or isinstance(result, asyncio.CancelledError | QueueFull) for result in results)
    assert (slots.busy, slots.waiting) == (0, 0)


@settings(max_examples=100)
@given(steps=STEPS)
def test_no_interleaving_loses_a_slot_or_a_wake_up(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(steps))


@pytest.mark.parametrize("passes", range(4))
async def test_a_cancel_at_any_moment_of_the_handover_gives_the_slot_to_the_next(passes: int) -> None:
    slots = FairSlots(1, 1)
    first, second, third = [User(slots, Owner("a", name)) for name in "xyz"]
    await asyncio.sleep(0)
    first.ends.set()
    for _ in range(passes):
        await asyncio.sleep(0)
    second.task.cancel()
    await asyncio.wait({first.task, second.task})
    await settle(slots, [first, second, third])
    assert third.is_holding
    third.ends.set()
    await third.task
