"""The TypeScript client: which failures it repeats, and its operations with a real server."""

from tests.end_to_end.support.system import SystemUnderTest
from tests.end_to_end.support.typescript import node, report


def test_failures_are_repeated_if_that_is_safe() -> None:
    node("--test", "tests/retries.test.mjs")


async def test_operations_return_typed_results_and_problems_are_errors(system: SystemUnderTest) -> None:
    assert await report("tests/operations.mjs", f"http://127.0.0.1:{system.port}/graphql") == {
        "subject": "local",
        "run": ["COMPLETED", {"a": 5}, True, True],
        "runs": [True],
        "sameRun": 1,
        "absent": None,
        "conflict": ["CONFLICT", True],
        "state": ["INVALID_STATE", "COMPLETED"],
        "missing": ["NOT_FOUND", True],
        "invalid": ["VALIDATION", "nodes[0].type"],
        "failed": [None, "CODE"],
        "own": "COMPLETED",
        "deleted": True,
    }
