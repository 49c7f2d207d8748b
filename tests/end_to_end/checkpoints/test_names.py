"""The names of templates are the same in a run, at its checkpoints, in samples and in tests of nodes."""

from typing import Any

from tests.end_to_end.support.client_actions import mutate, wait_for_status
from tests.end_to_end.support.system import SystemUnderTest
from tests.schema.test_spec import NAMES, SAMPLE

IN_MAP_ONLY = {"item": "x", "index": 0}
IN_RUN = {text: value for text, value in NAMES if text not in IN_MAP_ONLY}
TRANSFORM = {"output": {text: f"{{{{ {text} }}}}" for text, _ in NAMES}}
SPEC: dict[str, Any] = {
    "nodes": [
        {"id": "count", "type": "transform", "config": {"output": "{{ (count.last_output or 0) + 1 }}"}},
        {"id": "b-c", "type": "transform", "config": {"output": 3}},
        {"id": "a", "type": "transform", "config": {"output": 2}},
        {
            "id": "each",
            "type": "map",
            "config": {"items": ["x"], "node": {"type": "transform", "config": TRANSFORM}},
        },
        {"id": "ask", "type": "human", "config": {"prompt": "?"}},
        {"id": "end", "type": "end", "config": {}},
    ],
    "edges": [
        {"source": "count", "target": "b-c", "condition": "count.output == 1"},
        {"source": "count", "target": "a", "condition": "count.output == 2"},
        {"source": "b-c", "target": "count"},
        {"source": "a", "target": "each"},
        {"source": "each", "target": "ask"},
        {"source": "ask", "target": "count", "condition": "ask.output == 'again'"},
        {"source": "ask", "target": "end", "condition": "ask.output != 'again'"},
    ],
}
READ = """query ($id: ID!, $text: String!) { run(id: $id) { nodeStates { nodeId output }
    checkpoints(first: 1) { nodes { evaluate(expression: $text, kind: EXPRESSION) { value errors { message } } } } } }"""
EVALUATE = """query ($text: String!, $sample: JSON!) {
    evaluateExpression(expression: $text, context: $sample, kind: EXPRESSION) { value errors { message } } }"""


def expression_of(texts: Any) -> str:
    return "{" + ", ".join(f'"{text}": {text}' for text in texts) + "}"


async def test_each_name_has_one_value_in_all_places(system: SystemUnderTest) -> None:
    run_id = (await system.run(SPEC, SAMPLE["input"], mode="ASYNC"))["run"]["id"]
    await wait_for_status(system, run_id, "WAITING")
    run = (await system.execute(READ, id=run_id, text=expression_of(IN_RUN)))["run"]
    states = {state["nodeId"]: state["output"] for state in run["nodeStates"]}
    sampled = await system.execute(EVALUATE, text=expression_of(dict(NAMES)), sample=SAMPLE)
    test = {"type": "transform", "config": TRANSFORM, "context": SAMPLE}
    tested = await mutate(system, "testNode", "output error { message } errors { detail }", **test)
    assert states["each"]["items"] == [dict(NAMES)]
    assert run["checkpoints"]["nodes"][0]["evaluate"] == {"value": IN_RUN, "errors": []}
    assert sampled["evaluateExpression"] == {"value": dict(NAMES), "errors": []}
    assert tested == {"output": dict(NAMES), "error": None, "errors": []}
