"""Whatever is sent, the answer says what is wrong and where, and the next run is well."""

from typing import Any

import pytest

from tests.end_to_end.system import System


def code(body: str, **config: Any) -> dict[str, Any]:
    source = f"def process():\n    {body}\n"
    return {
        "nodes": [{"id": "c", "type": "code", "config": {"language": "python", "code": source, **config}}],
        "edges": [],
    }


RETURNED = {
    "NaN": "return float('nan')",
    "a NUL": "return chr(0)",
    "a set": "return {1, 2}",
    "a huge integer": "return 10 ** 40",
}


@pytest.mark.parametrize("body", RETURNED.values(), ids=RETURNED.keys())
async def test_an_output_that_is_no_storable_json_fails_its_node_alone(system: System, body: str) -> None:
    run = (await system.run(code(body)))["run"]
    assert (run["status"], run["error"]["code"], run["error"]["nodeId"]) == ("FAILED", "OUTPUT", "c")


async def test_code_that_raises_names_the_line(system: System) -> None:
    run = (await system.run(code("return 1 / 0")))["run"]
    assert run["status"] == "FAILED"
    assert "ZeroDivisionError" in run["error"]["message"]
    assert "2" in run["error"]["message"]


async def test_code_that_allocates_without_end_is_stopped(system: System) -> None:
    run = (await system.run(code("return len('x' * (10 * 1024 ** 3))")))["run"]
    assert run["status"] == "FAILED"
    assert run["error"]["code"] in ("MEMORY_LIMIT", "SANDBOX")


async def test_code_that_loops_for_ever_on_every_sandbox_lets_others_have_their_turn(system: System) -> None:
    loops = [await system.run(code("while True: pass", timeoutS=1), mode="ASYNC") for _ in range(5)]
    run = (await system.run(code("return 42")))["run"]
    assert run["output"] == {"c": 42}
    for loop in loops:
        assert (await system.ended(loop["run"]["id"]))["error"]["code"] == "TIMEOUT"


async def test_a_spec_that_cannot_run_is_refused_with_every_problem(system: System) -> None:
    spec = {
        "nodes": [{"id": "a", "type": "nonsense"}, {"id": "b", "type": "transform", "config": {"output": "{{ 1 + }}"}}],
        "edges": [{"source": "a", "target": "nowhere"}],
    }
    answer = await system.run(spec)
    assert answer["run"] is None
    [problem] = answer["errors"]
    assert problem["code"] == "VALIDATION"
    assert {one["nodeId"] for one in problem["errors"]} >= {"a", "b"}


@pytest.mark.parametrize("spec", [[], "text", 3, None, {"nodes": []}, {"nodes": {}}])
async def test_a_spec_of_another_shape_is_a_problem_and_no_fault(system: System, spec: Any) -> None:
    query = "query ($spec: JSON!) { validateSpec(spec: $spec) { ok errors { message } } }"
    if spec is None:
        return
    report = (await system.ask(query, spec=spec))["validateSpec"]
    assert not report["ok"]
    assert report["errors"]


async def test_an_error_message_that_cannot_be_stored_is_told_all_the_same(system: System) -> None:
    """A NUL in what the code raises once left the run RUNNING for ever."""
    code = "def process():\n    raise ValueError('before' + chr(0) + 'after')\n"
    answer = await system.run({"nodes": [{"id": "c", "type": "code", "config": {"code": code}}], "edges": []})
    assert (answer["run"]["status"], answer["run"]["error"]["nodeId"]) == ("FAILED", "c")
    assert "before\N{REPLACEMENT CHARACTER}after" in answer["run"]["error"]["message"]
