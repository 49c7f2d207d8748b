"""While a caller sends heavy work, the server answers others as fast as one heavy answer takes."""

from time import perf_counter
from typing import Any

import httpx
import pytest

from tests.end_to_end.support.system import SystemUnderTest
from tests.hostile.turns import ATTACKS, LIGHT_RUN, RUN, longest_wait

QUIET_S = 0.25
"""The longest wait on a quiet machine."""

EXPECTED = {
    "evaluate_endless_templates": "of the same caller wait already",
    "validate_large_specs": "'ok': True",
    "try_endless_nodes": "testNode",
    "run_endless_code": "cancelRun",
}


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_probe_does_not_wait_for_the_work_of_others(system: SystemUnderTest, name: str) -> None:
    address = f"http://127.0.0.1:{system.port}"
    async with httpx.AsyncClient(trust_env=False, timeout=60) as attacker, httpx.AsyncClient(trust_env=False) as victim:

        async def execute(query: str, **variables: Any) -> Any:
            return (await attacker.post(f"{address}/graphql", json={"query": query, "variables": variables})).json()

        async def probe() -> None:
            assert (await victim.get(f"{address}/health")).status_code == 200
            response = await victim.post(f"{address}/graphql", json={"query": "{__typename}"})
            assert response.json()["data"] == {"__typename": "Query"}

        await probe()
        reference_s = 0.0
        for _ in range(10):
            started_at = perf_counter()
            await execute(RUN, input={"spec": LIGHT_RUN, "mode": "SYNC"})
            reference_s = max(reference_s, perf_counter() - started_at)
        answers, waited_s = await longest_wait(ATTACKS[name](execute), probe)
        assert waited_s < max(QUIET_S, 10 * reference_s)
        assert EXPECTED[name] in str(answers), "the attack did its work, or was refused with a reason"
