"""A number without a fraction has one form, wherever a client reads it: 10.0 is 10."""

import json
from typing import Any

from tests.end_to_end.support.client_actions import mutate, wait_for_status
from tests.end_to_end.support.system import SystemUnderTest

SPEC: dict[str, Any] = {
    "nodes": [
        {
            "id": "half",
            "type": "code",
            "config": {
                "code": "def process(x):\n    return {'half': x / 2, 'list': [1.0, 2.5], 'text': str(x / 2)}\n",
                "input_mapping": {"x": "{{ input.x }}"},
            },
        },
        {
            "id": "each",
            "type": "map",
            "config": {
                "items": "{{ input.a }}",
                "node": {"type": "transform", "config": {"output": "{{ item * 1.0 }}"}},
            },
        },
        {"id": "ask", "type": "human", "config": {"prompt": "{{ half.output.half }}"}},
        {
            "id": "all",
            "type": "transform",
            "config": {
                "output": {
                    "values": ["{{ input.x }}", "{{ input.a }}", "{{ input.a | first }}", "{{ half.output }}", 4.0],
                    "answer": "{{ ask.output }}",
                    "texts": [
                        "x {{ input.x }} {{ input.a }}",
                        "{{ input.x ~ '' }}",
                        "{{ input.a | join(' ') }}",
                        "{{ half.output.half | string }}",
                        "{{ half.output | tojson }}",
                        "{{ each.output['items'] }}",
                    ],
                }
            },
        },
    ],
    "edges": [
        {"source": "half", "target": "each"},
        {"source": "each", "target": "ask"},
        {"source": "ask", "target": "all"},
    ],
}
HALF = {"half": 5, "list": [1, 2.5], "text": "5.0"}
OUTPUTS = {
    "half": HALF,
    "ask": {"n": 7},
    "all": {
        "values": [10, [10, 2.5], 10, HALF, 4],
        "answer": {"n": 7},
        "texts": ["x 10 [10,2.5]", "10", "10 2.5", "5", '{"half":5,"list":[1,2.5],"text":"5.0"}', [10, 2.5]],
    },
}
READ = """query ($id: ID!) { run(id: $id) { inputs output nodeStates { nodeId output }
    waits { ... on InputWait { waitId prompt } }
    checkpoints(first: 1) { nodes { state evaluate(expression: "[input, all.output]") { value } } } } }"""


def texts(value: Any) -> str:
    """Write a value as JSON, because 10.0 == 10 in Python."""
    return json.dumps(value, sort_keys=True)


async def test_a_number_without_a_fraction_is_a_whole_number_in_every_answer(system: SystemUnderTest) -> None:
    run_id = (await system.run(SPEC, {"x": 10.0, "a": [10.0, 2.5]}, mode="ASYNC"))["run"]["id"]
    await wait_for_status(system, run_id, "WAITING")
    [wait] = (await system.execute(READ, id=run_id))["run"]["waits"]
    assert texts(wait["prompt"]) == "5"
    await mutate(system, "resumeRun", runId=run_id, waitId=wait["waitId"], answer={"n": 7.0})
    await wait_for_status(system, run_id, "COMPLETED")
    run = (await system.execute(READ, id=run_id))["run"]
    assert texts(run["inputs"]) == texts({"x": 10, "a": [10, 2.5]})
    states = {state["nodeId"]: state["output"] for state in run["nodeStates"]}
    [checkpoint] = run["checkpoints"]["nodes"]
    for shown in (states, checkpoint["state"]):
        assert texts({name: shown[name] for name in OUTPUTS}) == texts(OUTPUTS)
    assert texts(checkpoint["evaluate"]["value"]) == texts([run["inputs"], OUTPUTS["all"]])
