"""Warns of codes in `retry.on` that no error of the node has. Pure.

A node type of a package has codes of its own. There only a code that looks like a known one is
reported.
"""

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any

from engine.errors import NODE_CODES
from engine.problems import FieldProblem, join_path
from engine.sdk.node import NodeType
from engine.states import Severity
from engine.types import JSON

MAX_CODE = 64
"""Characters of a code that is compared with the known ones."""
MAX_WARNINGS = 10
"""Codes of one node that are reported."""
FAIL, DEFAULT_CODE = "fail", "FAILED"
"""The node type whose config names its code, and the code if it names none."""
_SIMILARITY = 0.75


def check_codes(
    codes: Collection[Any], path: str, kind: NodeType[Any] | None, node_id: str | None, own: Collection[str] = ()
) -> Iterator[FieldProblem]:
    """Find the codes that are not known.

    Args:
        codes: The codes in `retry.on`. Items that are no text are left out.
        path: The path of the node.
        kind: The type of the node; None if it is unknown.
        node_id: The id that the problems carry.
        own: The codes that the config of the node names.
    """
    known = {*NODE_CODES, *own}
    unknown = sorted(code for code in codes if isinstance(code, str) and code not in known)
    for code in unknown[:MAX_WARNINGS]:
        if hint := _hint(code, kind):
            message = f"no error of this node has the code {code[:MAX_CODE]!r}, so it repeats nothing: {hint}"
            yield FieldProblem(join_path(path, "retry", "on"), "UNKNOWN_CODE", message, Severity.WARNING, node_id)


def own_codes(name: str, config: JSON) -> set[str]:
    """Return the codes of a `fail`, and of each `fail` inside the config of a node.

    Args:
        name: The type of the node.
        config: Its config, as written in the spec.
    """
    found: set[str] = set()
    stack: list[JSON] = [{"type": name, "config": config}]
    while stack:
        value = stack.pop()
        if isinstance(value, dict) and value.get("type") == FAIL and isinstance(inner := value.get("config"), dict):
            code = inner.get("code", DEFAULT_CODE)
            found |= {code} if isinstance(code, str) else set()
        stack += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found


def _hint(code: str, kind: NodeType[Any] | None) -> str:
    """Return what to write instead; an empty text if the code may be one of a package."""
    written = code[:MAX_CODE].upper().replace("-", "_").replace(" ", "_")
    if near := get_close_matches(written, sorted(NODE_CODES), 1, _SIMILARITY):
        return f"did you mean {near[0]!r}?"
    is_built_in = kind is not None and type(kind).__module__.startswith("engine.nodes.")
    return "docs/errors.md lists the codes" if is_built_in else ""
