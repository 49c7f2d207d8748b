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

MAX_CODE = 64
"""Characters of a code that is compared with the known ones."""
MAX_WARNINGS = 10
"""Codes of one node that are reported."""
_SIMILARITY = 0.75


def check_codes(
    codes: Collection[Any], path: str, kind: NodeType[Any] | None, node_id: str | None
) -> Iterator[FieldProblem]:
    """Find the codes that are not known.

    Args:
        codes: The codes in `retry.on`. Items that are no text are left out.
        path: The path of the node.
        kind: The type of the node; None if it is unknown.
        node_id: The id that the problems carry.
    """
    unknown = sorted(code for code in codes if isinstance(code, str) and code not in NODE_CODES)
    for code in unknown[:MAX_WARNINGS]:
        if hint := _hint(code, kind):
            message = f"no error of this node has the code {code[:MAX_CODE]!r}, so it repeats nothing: {hint}"
            yield FieldProblem(join_path(path, "retry", "on"), "UNKNOWN_CODE", message, Severity.WARNING, node_id)


def _hint(code: str, kind: NodeType[Any] | None) -> str:
    """Return what to write instead; an empty text if the code may be one of a package."""
    written = code[:MAX_CODE].upper().replace("-", "_").replace(" ", "_")
    if near := get_close_matches(written, sorted(NODE_CODES), 1, _SIMILARITY):
        return f"did you mean {near[0]!r}?"
    is_built_in = kind is not None and type(kind).__module__.startswith("engine.nodes.")
    return "docs/spec.md lists the codes" if is_built_in else ""
