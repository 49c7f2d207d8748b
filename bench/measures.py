"""Numbers and how they are told: percentiles, and one line of the table per figure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `target` is what the issue asks for; `is_met` None where it asks only for a report."""

    row: str
    what: str
    value: float
    unit: str
    target: str = ""
    is_met: bool | None = None
    note: str = ""
    is_landslide: bool = False
    """Missed by more than half of the target: more than noise can be blamed for."""


def at_least(row: str, what: str, value: float, bound: float, unit: str = "×", note: str = "") -> Figure:
    return Figure(row, what, value, unit, f"≥ {bound:g}", value >= bound, note, value < bound / 2)


def at_most(row: str, what: str, value: float, bound: float, unit: str = "×", note: str = "") -> Figure:
    return Figure(row, what, value, unit, f"≤ {bound:g}", value <= bound, note, value > bound * 2)


def reported(row: str, what: str, value: float, unit: str, note: str = "") -> Figure:
    return Figure(row, what, value, unit, note=note)


def percentile(values: Sequence[float], part: float) -> float:
    """`part` 0.5 is the median. Of nothing: NaN."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else float("nan")
