"""Figures of the benchmark, one for each line of the table, and percentiles."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        row: The number of the row, with an optional remark after a space.
        target: The target as text; empty if there is none.
        is_met: Whether the target is met; None if there is none.
        is_far_off: Whether the value is beyond the limit of `bench --quick`: noise does not explain it.
    """

    row: str
    name: str
    value: float
    unit: str
    target: str = ""
    is_met: bool | None = None
    note: str = ""
    is_far_off: bool = False


def at_least(
    row: str, name: str, value: float, bound: float, unit: str = "×", note: str = "", slack: float = 2
) -> Figure:
    """Create a figure whose target is at least `bound`. It is far off below `bound / slack`."""
    return Figure(row, name, value, unit, f"≥ {bound:g}", value >= bound, note, value < bound / slack)


def at_most(
    row: str, name: str, value: float, bound: float, unit: str = "×", note: str = "", slack: float = 2
) -> Figure:
    """Create a figure whose target is at most `bound`. It is far off above `bound * slack`."""
    return Figure(row, name, value, unit, f"≤ {bound:g}", value <= bound, note, value > bound * slack)


def reported(row: str, name: str, value: float, unit: str, note: str = "") -> Figure:
    """Create a figure without a target."""
    return Figure(row, name, value, unit, note=note)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the nearest-rank percentile; `part` 0.5 is the median. NaN if there are no values."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else float("nan")
