"""The node `fail` fails the run, its branch or its item with the author's code and message."""

from typing import Any

import pytest

from engine.states import RunStatus
from engine.validation.validator import validate
from tests.engine.memory_runs import run
from tests.engine.node_runner import TYPES
from tests.engine.nodes.map.map_nodes import MemoryItems

FAIL = {
    "id": "stop",
    "type": "fail",
    "config": {
        "code": "OUT_OF_STOCK",
        "message": "only {{ input.left }} left",
        "details": {"left": "{{ input.left }}"},
    },
}
INPUTS = {"left": 3}


def spec(*more: dict[str, Any], **fields: Any) -> dict[str, Any]:
    nodes = [{"id": "s", "type": "start"}, {**FAIL, **fields}, *more]
    edges = [{"source": "s", "target": "stop"}]
    return {
        "nodes": nodes,
        "edges": edges + [{"source": "stop", "target": node["id"], "port": "error"} for node in more],
    }


async def test_a_run_fails_with_the_code_the_message_and_the_details() -> None:
    ended = await run(spec(), INPUTS)
    assert ended.status is RunStatus.FAILED
    assert ended.error is not None
    error = ended.error
    assert (error.code, error.message, error.node_id) == ("OUT_OF_STOCK", "only 3 left", "stop")
    assert (error.retryable, error.details) == (False, {"left": 3})


async def test_a_branch_handles_the_failure() -> None:
    after = {"id": "after", "type": "transform", "config": {"output": "{{ stop.output.error.code }}"}}
    raw = spec(after, onError="branch")
    assert (validate(raw, TYPES).errors, validate(raw, TYPES).warnings) == ([], [])
    ended = await run(raw, INPUTS)
    assert (ended.status, ended.output) == (RunStatus.COMPLETED, {"after": "OUT_OF_STOCK"})


async def test_it_is_not_repeated() -> None:
    ended = await run(spec(retry={"maxAttempts": 3, "backoffS": 60}), INPUTS)
    assert ended.status is RunStatus.FAILED


async def test_an_item_of_a_map_fails_alone() -> None:
    node = {"type": "fail", "config": {"code": "BAD_ITEM", "message": "{{ item }} is bad"}}
    config = {"items": ["a", "b"], "node": node, "onItemError": "collect"}
    ended = await run({"nodes": [{"id": "m", "type": "map", "config": config}]}, resources={"items": MemoryItems()})
    assert isinstance(ended.output, dict), ended.error
    errors = [(error["index"], error["code"], error["message"]) for error in ended.output["m"]["errors"]]
    assert errors == [(0, "BAD_ITEM", "a is bad"), (1, "BAD_ITEM", "b is bad")]


@pytest.mark.parametrize("message", ["{{ input }}", "{{ input.left }}"])
async def test_a_message_that_is_no_text_is_shown_as_json(message: str) -> None:
    ended = await run(spec(config={"message": message}), INPUTS)
    assert ended.error is not None
    assert (ended.error.code, ended.error.message) == ("FAILED", '{"left":3}' if "left" not in message else "3")
