"""What a waiting run asks a person, and how to answer it: said by `treadle run` in words that can be pasted."""

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


def questions(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the answer to WAITS: the waits that a person can end."""
    return [wait for wait in run["waits"] if "waitId" in wait]


def told(run_id: str, run: dict[str, Any], wait: dict[str, Any], page: str) -> str:
    """Some lines for a terminal."""
    label = next((state["label"] for state in run["nodeStates"] if state["nodeId"] == wait["nodeId"]), wait["nodeId"])
    prompt = wait["prompt"] if isinstance(wait["prompt"], str) else json.dumps(wait["prompt"], ensure_ascii=False)
    until = f" (until {wait['expiresAt']})" if wait["expiresAt"] else ""
    lines = [f"It waits for an answer to “{label}”{until}:", *(f"  {line}" for line in prompt.splitlines())]
    lines += [f"Answer it on {page} (this goes on then):", f"  {mutation(run_id, wait)}"]
    if wait["schema"] is not None:
        lines.append(f"The answer must fit {json.dumps(wait['schema'], ensure_ascii=False)}")
    return "\n".join(lines)


def mutation(run_id: str, wait: dict[str, Any]) -> str:
    """With an answer of the right shape, as far as the schema tells one."""
    given = f'runId: "{run_id}", waitId: "{wait["waitId"]}", answer: {literal(sample(wait["schema"]))}'
    return f"mutation {{ resumeRun(input: {{{given}}}) {{ run {{ status }} errors {{ detail }} }} }}"


def sample(schema: Any) -> Any:
    """Something to be replaced: what the schema names itself, else the simplest value of its type."""
    if not isinstance(schema, dict):
        return "..."
    if "const" in schema:
        return schema["const"]
    for named in ("examples", "enum"):
        if schema.get(named):
            return schema[named][0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: sample(properties.get(name)) for name in schema.get("required") or properties}
    return _SAMPLES.get(str(kind), "...")


def literal(value: Any) -> str:
    """JSON as GraphQL writes it. A key that is no name cannot stand there: it is left out."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {literal(one)}" for key, one in value.items() if _NAME.fullmatch(key)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
