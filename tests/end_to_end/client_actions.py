"""What a user does with a system: mutations, waiting for a status, and the examples of this repository."""

import json
from typing import Any

from tests.end_to_end.system import ROOT, System

PAYLOAD = "run { id status } errors { code detail ... on ValidationProblem { errors { field code message } } }"


async def do(system: System, name: str, payload: str = PAYLOAD, /, **input: Any) -> Any:
    kind = name[0].upper() + name[1:] + "Input"
    answer = await system.ask(f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {payload} }} }}", input=input)
    return answer[name]


async def until(system: System, run_id: str, status: str) -> Any:
    """The run once it has that status."""
    query = "subscription ($id: ID!) { runEvents(runId: $id) { seq ... on RunStatusChanged { status } } }"
    async for event in system.follow(query, id=run_id):
        if event["runEvents"].get("status") == status:
            return await system.read(run_id)
    raise AssertionError(f"the run ended without being {status}")


def example(name: str) -> Any:
    return json.loads((ROOT / "examples" / f"{name}.json").read_text())
