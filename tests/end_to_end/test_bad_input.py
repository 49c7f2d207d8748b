"""Invalid specs and failing code are reported with their cause, and do not affect later runs."""

from typing import Any

import pytest

from tests.end_to_end.support.system import SystemUnderTest


def code_spec(body: str, **config: Any) -> dict[str, Any]:
    """Create a spec with one `code` node."""
    source = f"def process():\n    {body}\n"
    return {
        "nodes": [{"id": "c", "type": "code", "config": {"language": "python", "code": source, **config}}],
        "edges": [],
    }


UNSTORABLE = {
    "NaN": "return float('nan')",
    "a NUL": "return chr(0)",
    "a set": "return {1, 2}",
    "a huge integer": "return 10 ** 40",
}


@pytest.mark.parametrize("body", UNSTORABLE.values(), ids=UNSTORABLE.keys())
async def test_an_output_that_cannot_be_stored_fails_its_node(system: SystemUnderTest, body: str) -> None:
    run = (await system.run(code_spec(body)))["run"]
    assert (run["status"], run["error"]["code"], run["error"]["nodeId"]) == ("FAILED", "OUTPUT", "c")


async def test_an_exception_of_code_is_reported_with_its_line(system: SystemUnderTest) -> None:
    run = (await system.run(code_spec("return 1 / 0")))["run"]
    assert run["status"] == "FAILED"
    assert "ZeroDivisionError" in run["error"]["message"]
    assert "2" in run["error"]["message"]


async def test_code_that_exceeds_its_memory_limit_is_stopped(system: SystemUnderTest) -> None:
    run = (await system.run(code_spec("return len('x' * (10 * 1024 ** 3))")))["run"]
    assert run["status"] == "FAILED"
    assert run["error"]["code"] in ("MEMORY_LIMIT", "SANDBOX")


async def test_endless_code_in_every_sandbox_does_not_block_other_runs(system: SystemUnderTest) -> None:
    loops = [await system.run(code_spec("while True: pass", timeoutS=1), mode="ASYNC") for _ in range(5)]
    run = (await system.run(code_spec("return 42")))["run"]
    assert run["output"] == {"c": 42}
    for loop in loops:
        assert (await system.wait_for_end(loop["run"]["id"]))["error"]["code"] == "TIMEOUT"


async def test_an_invalid_spec_is_refused_with_all_problems(system: SystemUnderTest) -> None:
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
async def test_a_spec_of_a_wrong_shape_is_a_validation_problem(system: SystemUnderTest, spec: Any) -> None:
    query = "query ($spec: JSON!) { validateSpec(spec: $spec) { ok errors { message } } }"
    if spec is None:
        return
    report = (await system.execute(query, spec=spec))["validateSpec"]
    assert not report["ok"]
    assert report["errors"]


async def test_an_error_message_that_cannot_be_stored_is_cleaned_and_reported(system: SystemUnderTest) -> None:
    """Regression: a NUL in the message of an exception left the run RUNNING forever."""
    code_spec = "def process():\n    raise ValueError('before' + chr(0) + 'after')\n"
    answer = await system.run({"nodes": [{"id": "c", "type": "code", "config": {"code": code_spec}}], "edges": []})
    assert (answer["run"]["status"], answer["run"]["error"]["nodeId"]) == ("FAILED", "c")
    assert "before\N{REPLACEMENT CHARACTER}after" in answer["run"]["error"]["message"]
