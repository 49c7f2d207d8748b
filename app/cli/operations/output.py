"""Prints objects of the API: as a table for people, or as JSON for programs."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.terminal_text import escape_controls

Columns = Mapping[str, Callable[[Any], object]]
"""Headings, and how to read the cell of an object."""


def print_json(value: object) -> None:
    """Print a value as JSON. Keys keep the order of the query."""
    print_line(json.dumps(value, ensure_ascii=False, indent=2))


def print_line(text: str) -> None:
    """Print a text without markup, without breaks at the width of the terminal."""
    Console().print(Text(escape_controls(text, keep_lines=True)), soft_wrap=True)


def print_table(rows: Iterable[Any], columns: Columns, nothing: str) -> None:
    """Print a row for each object, or the text `nothing`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("id", "run"))
    for row in rows:
        table.add_row(*(Text(cell_text(read(row))) for read in columns.values()))
    console = Console()
    if table.row_count and not console.is_terminal:
        # Programs such as `grep` and `cut` read whole lines.
        console.width = 1000
    console.print(table if table.row_count else nothing, soft_wrap=not console.is_terminal)


def cell_text(value: object) -> str:
    """Render a value for people: nothing for null, and JSON for lists and objects."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escape_controls(text)


def print_fields(value: Mapping[str, Any], indent: str = "") -> None:
    """Print an object as lines of name and value, with a list of objects as indented blocks."""
    for name, field in value.items():
        if isinstance(field, list) and field and isinstance(field[0], dict):
            print_line(f"{indent}{name}:")
            for item in field:
                print_line(f"{indent}  - {_inline(item)}")
        elif isinstance(field, dict) and set(field) == {"nodes"}:
            print_fields({name: field["nodes"]}, indent)
        elif field not in (None, "", [], {}):
            print_line(f"{indent}{name}: {cell_text(field)}")


def _inline(item: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={cell_text(field)}" for name, field in item.items() if field not in (None, [], {}))


def age(moment: str | None) -> str:
    """Render a time of the API as the time since then, such as `3 min`."""
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
