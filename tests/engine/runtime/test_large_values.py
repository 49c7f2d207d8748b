"""Large outputs and inputs with secrets are checked and redacted outside of the event loop."""

import asyncio
import gc
from time import perf_counter
from typing import Any

import pytest

from engine.isolation import suspension
from engine.values.large_values import LARGE, is_large, off_loop
from engine.values.redaction import Redactor
from engine.values.storable import MAX_SIZE, check_storable
from tests.hostile.loop_lag import longest_block

SECRETS = [f"a-long-secret-value-{number:04}" for number in range(20)]


@pytest.mark.parametrize(
    "value",
    [
        [number % 10 for number in range(MAX_SIZE // 4 - 10)],
        [{"key": f"text {number}"} for number in range(300_000)],
        "x" * (MAX_SIZE - 100) + SECRETS[0],
        ["é" * 40 + SECRETS[number % 20] for number in range(100_000)],
    ],
    ids=["numbers", "objects", "one text", "secrets"],
)
async def test_a_large_value_never_blocks_the_event_loop(value: Any) -> None:
    redactor = Redactor(SECRETS)

    def check_and_redact() -> Any:
        off_loop(check_storable, value)
        return off_loop(redactor.redact_value, value)

    gc.freeze()  # The test holds more objects than a worker, and a collection stops every thread.
    try:
        started_at = perf_counter()
        expected = check_and_redact()
        direct_s = perf_counter() - started_at
        redacted, blocked_s = await longest_block(suspension.call(check_and_redact))
    finally:
        gc.unfreeze()
    assert blocked_s < max(0.25, direct_s / 2)
    assert redacted == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        ("x" * LARGE, False),
        ("x" * (LARGE + 1), True),
        ([0] * (LARGE // 4), False),
        ([0] * (LARGE // 4 + 1), True),
        ({"a": [{"b": ["x" * LARGE]}]}, True),
        ({"k" * (LARGE + 1): 1}, True),
        ([[[[1]]]], False),
    ],
)
def test_a_value_is_large_by_its_whole_size(value: Any, expected: bool) -> None:
    assert is_large(value) is expected


async def test_outside_of_a_suspendable_coroutine_a_large_value_is_handled_at_once() -> None:
    before = asyncio.all_tasks()
    assert off_loop(check_storable, "x" * LARGE * 2) > LARGE
    assert asyncio.all_tasks() == before
