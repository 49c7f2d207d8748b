"""Shows what a waiting run asks a person, with a GraphQL mutation that answers it.

`treadle run` prints the text in a terminal; the mutation can be pasted into GraphiQL.
"""

import json
import re
from typing import Any

WAITS = """
query ($run: ID!) {
  run(id: $run) { nodeStates { nodeId label } waits { nodeId ... on InputWait { waitId prompt schema expiresAt } } }
}
"""
_NAME = re.compile(r"[_A-Za-z]\w*", re.ASCII)
_SAMPLES: dict[str, Any] = {"boolean": True, "string": "...", "number": 0, "integer": 0, "array": [], "null": None}


def open_questions(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the waits that a person can end, of the `run` in the response to `WAITS`."""
    return [wait for wait in run["waits"] if "waitId" in wait]


def question_text(run_id: str, run: dict[str, Any], wait: dict[str, Any], page: str) -> str:
    """Render a question for a terminal: node, prompt, the mutation that answers it, and the schema.

    Args:
        run: The `run` in the response to `WAITS`.
        wait: One of `open_questions(run)`.
        page: The address of GraphiQL.
    """
    label = next((state["label"] for state in run["nodeStates"] if state["nodeId"] == wait["nodeId"]), wait["nodeId"])
    prompt = wait["prompt"] if isinstance(wait["prompt"], str) else json.dumps(wait["prompt"], ensure_ascii=False)
    expiry = f" (until {wait['expiresAt']})" if wait["expiresAt"] else ""
    lines = [f"The run waits for an answer to “{label}”{expiry}:", *(f"  {line}" for line in prompt.splitlines())]
    lines += [f"Answer it at {page}; this command continues then:", f"  {answer_mutation(run_id, wait)}"]
    if wait["schema"] is not None:
        lines.append(f"The answer must match the schema {json.dumps(wait['schema'], ensure_ascii=False)}")
    return "\n".join(lines)


def answer_mutation(run_id: str, wait: dict[str, Any]) -> str:
    """Render a mutation that answers the question with a sample that fits its schema."""
    answer = graphql_literal(sample_of(wait["schema"]))
    fields = f'runId: "{run_id}", waitId: "{wait["waitId"]}", answer: {answer}'
    return f"mutation {{ resumeRun(input: {{{fields}}}) {{ run {{ status }} errors {{ detail }} }} }}"


def sample_of(schema: Any) -> Any:
    """Return a sample for a JSON Schema: a value that it names, else a simple one of its type."""
    if not isinstance(schema, dict):
        return "..."
    if "const" in schema:
        return schema["const"]
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: sample_of(properties.get(name)) for name in schema.get("required") or properties}
    return _SAMPLES.get(str(kind), "...")


def graphql_literal(value: Any) -> str:
    """Render JSON as a GraphQL literal. Keys that are not GraphQL names are left out."""
    if isinstance(value, dict):
        fields = (f"{key}: {graphql_literal(one)}" for key, one in value.items() if _NAME.fullmatch(key))
        return "{" + ", ".join(fields) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(graphql_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
