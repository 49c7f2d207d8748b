"""Actions of a client: mutations, waiting for a status of a run, and reading the examples."""

import json
from typing import Any

from tests.end_to_end.support.system import ROOT, SystemUnderTest

PAYLOAD = "run { id status } errors { code detail ... on ValidationProblem { errors { field code message } } }"


async def mutate(system: SystemUnderTest, name: str, payload: str = PAYLOAD, /, **input: Any) -> Any:
    """Execute a mutation and return its payload.

    Args:
        payload: The selected fields of the payload.
        input: The fields of the input.
    """
    kind = name[0].upper() + name[1:] + "Input"
    data = await system.execute(f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {payload} }} }}", input=input)
    return data[name]


async def wait_for_status(system: SystemUnderTest, run_id: str, status: str) -> Any:
    """Wait until the run has a status, and return the run."""
    query = "subscription ($id: ID!) { runEvents(runId: $id) { seq ... on RunStatusChanged { status } } }"
    async for event in system.subscribe(query, id=run_id):
        if event["runEvents"].get("status") == status:
            return await system.read(run_id)
    raise AssertionError(f"the run ended without being {status}")


def example(name: str) -> Any:
    """Read an example: its spec, and its inputs under `exampleInputs`."""
    return json.loads((ROOT / "examples" / f"{name}.json").read_text())
