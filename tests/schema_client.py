"""Calls the schema in process, as a client would over the network."""

from typing import Any

from resolvers.context import Context
from schema.schema import schema

PROBLEM = """errors { __typename code type title detail status
  ... on ValidationProblem { errors { field code message severity nodeId } }
  ... on NotFoundProblem { resourceId }
  ... on InvalidStateProblem { runStatus }
  ... on ConflictProblem { currentRevision draft { revision spec } } }"""

LINEAR: dict[str, Any] = {
    "nodes": [
        {"id": "start", "type": "start", "config": {}},
        {"id": "end", "type": "end", "config": {"output": "{{ input.value }}"}},
    ],
    "edges": [{"source": "start", "target": "end"}],
}


def with_output(output: object) -> dict[str, Any]:
    """Return LINEAR with another output of its last node, which makes it another version."""
    start, end = LINEAR["nodes"]
    return {**LINEAR, "nodes": [start, {**end, "config": {"output": output}}]}


async def call(context: Context, query: str, /, **variables: Any) -> dict[str, Any]:
    """Execute an operation, assert that it has no top-level errors, and return its data."""
    result = await schema.execute(query, variable_values=variables, context_value=context)
    assert not result.errors, result.errors
    assert result.data is not None
    return result.data


async def mutate(context: Context, name: str, answer: str, /, **input: Any) -> dict[str, Any]:
    """Execute a mutation, and return its payload with its problems."""
    kind = name[0].upper() + name[1:] + "Input"
    if name in ("publishVersion", "archiveVersion"):
        kind = "VersionInput"
    query = f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {answer} {PROBLEM} }} }}"
    payload: dict[str, Any] = (await call(context, query, input=input))[name]
    return payload


async def new_workflow(context: Context, spec: object = None, name: str = "A workflow") -> str:
    payload = await mutate(context, "createWorkflow", "workflow { id }", name=name, spec=spec or LINEAR)
    assert payload["errors"] == []
    workflow_id: str = payload["workflow"]["id"]
    return workflow_id
