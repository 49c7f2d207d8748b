"""One thing wrong with an input or a spec: where, what, and how bad. A plain value; nothing here is stored."""

from dataclasses import dataclass

from engine.states import Severity


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """`field` is a path like `nodes[2].config.prompt`; `line` and `column` count from 1 in the text at that path."""

    field: str
    code: str
    message: str
    severity: Severity = Severity.ERROR
    node_id: str | None = None
    edge_id: str | None = None
    line: int | None = None
    column: int | None = None


def join_path(base: str, *parts: str | int) -> str:
    """`nodes[2]` and `config`, `cases`, 0 make `nodes[2].config.cases[0]`."""
    path = base
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
