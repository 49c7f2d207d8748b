"""JSON values of the database: small ones are read with their row, large ones when somebody asks for them.

The values of a page of runs may have many megabytes, which most operations do not ask for. And a server
only passes them on: to parse them makes millions of objects, which block the event loop at each step, until
the end of the objects. So a row has LARGE_VALUE in place of a large value, and the value is read by itself,
as its text.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

import orjson
from sqlalchemy import ColumnElement, Dialect, Text, literal_column
from sqlalchemy.types import TypeDecorator

from engine.types import JSON

MAX_STORED = 8 * 1024
"""Stored bytes, after compression, above which a value is large. The size is known without the value."""
MAX_TEXT = 16 * 1024
"""Bytes as text above which a value is large. To parse this takes less than 0.3 ms."""


class _Marker(Enum):
    LARGE_VALUE = "large value"


LARGE_VALUE: Final = _Marker.LARGE_VALUE
"""Stands in a row for a value that is read by itself."""
LargeValue = Literal[_Marker.LARGE_VALUE]


@dataclass(frozen=True, slots=True)
class JsonText:
    """A JSON value as its text."""

    text: str

    def value(self) -> JSON:
        """Parse the text."""
        parsed: JSON = orjson.loads(self.text)
        return parsed


def small_json(column: str) -> str:
    """Return the SQL expression of a JSON column as text: empty for a large value. Decode it by `from_text`."""
    return (
        f"CASE WHEN pg_column_size({column}) > {MAX_STORED} OR octet_length({column}::text) > {MAX_TEXT} "
        f"THEN '' ELSE {column}::text END"
    )


def from_text(text: str | None) -> JSON | LargeValue:
    """Return the value of a text that `small_json` has selected."""
    if text is None:
        return None
    parsed: JSON | LargeValue = orjson.loads(text) if text else LARGE_VALUE
    return parsed


class _SmallJson(TypeDecorator[Any]):
    impl = Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> JSON | LargeValue:
        return from_text(value)


def small_json_column(table: str, column: str) -> ColumnElement[Any]:
    """Select a JSON column of a table by its name; LARGE_VALUE stands for a large value."""
    return literal_column(small_json(f"{table}.{column}"), _SmallJson()).label(column)
