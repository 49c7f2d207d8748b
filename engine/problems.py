"""The value type for one problem of an input or a spec."""

from dataclasses import dataclass

from engine.states import Severity


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One problem of an input or a spec.

    `field` is a path such as `nodes[2].config.prompt`. `line` and `column` count from 1 in the text
    at that path.
    """

    field: str
    code: str
    message: str
    severity: Severity = Severity.ERROR
    node_id: str | None = None
    edge_id: str | None = None
    line: int | None = None
    column: int | None = None


def join_path(base: str, *parts: str | int) -> str:
    """Append keys and indices to a path: `nodes[2]`, `cases` and 0 become `nodes[2].cases[0]`."""
    path = base
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
