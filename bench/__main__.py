"""`make bench`: measures all parts, prints a table, and writes bench/results.json.

`python -m bench throughput latency` measures only these parts. `--quick` measures the most
important ratios, and exits with 1 if one is far off its target (`bench.measures.Figure.is_far_off`).
"""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import compiling, latency, limits, lists, shapes, startup, streaming, subscriptions, throughput
from bench.measures import Figure
from bench.processes import deployed, second_server
from bench.statistics import reading, writing
from bench.triggers import schedules

RESULTS = Path(__file__).parent / "results.json"
HALF_RATE = 80.0
"""Runs per second while row 6 is measured: about half of the rate of row 1 on two cores."""


def _latency(is_quick: bool) -> list[Figure]:
    count = 30 if is_quick else 100
    with deployed() as deployment:
        figures = asyncio.run(latency.sync_chain(deployment, count))
        figures += asyncio.run(latency.first_node(deployment, count))
        figures += asyncio.run(latency.stopping(deployment, count if is_quick else 300))
        if not is_quick:
            figures += asyncio.run(latency.delivery(deployment, count, "6", (3, 10)))
            figures += asyncio.run(latency.branches(deployment))
        figures += asyncio.run(compiling.sizes(deployment))
    return figures


def _subscriptions(_: bool) -> list[Figure]:
    with deployed() as deployment:
        figures = asyncio.run(subscriptions.many(deployment))
        return figures + asyncio.run(subscriptions.under_load(deployment, 100, HALF_RATE))


def _lists(_: bool) -> list[Figure]:
    with deployed() as deployment:
        return asyncio.run(lists.pages(deployment, 10))


def _limits(_: bool) -> list[Figure]:
    with deployed() as deployment, second_server(deployment) as port:
        return asyncio.run(limits.limits(deployment, port))


def _shapes(_: bool) -> list[Figure]:
    with deployed(http_allow="127.0.0.1/32") as deployment:
        return asyncio.run(shapes.shapes(deployment))


def _scale(_: bool) -> list[Figure]:
    with deployed() as deployment:
        return asyncio.run(lists.scale(deployment))


def _triggers(_: bool) -> list[Figure]:
    with deployed() as deployment:
        return asyncio.run(schedules.schedules(deployment))


def _statistics(is_quick: bool) -> list[Figure]:
    with deployed() as deployment:
        figures = asyncio.run(writing.writing(deployment))
        return figures if is_quick else figures + asyncio.run(reading.reading(deployment))


class BenchPart(StrEnum):
    """A part of the benchmark; see `bench.__init__`."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    COMPILING = "compiling"
    STARTUP = "startup"
    SHAPES = "shapes"
    SUBSCRIPTIONS = "subscriptions"
    STREAMING = "streaming"
    LISTS = "lists"
    SCALE = "scale"
    LIMITS = "limits"
    TRIGGERS = "triggers"
    STATISTICS = "statistics"


PARTS: dict[BenchPart, Callable[[bool], list[Figure]]] = {
    BenchPart.THROUGHPUT: lambda is_quick: throughput.throughput(4.0 if is_quick else 10.0, is_quick=is_quick),
    BenchPart.LATENCY: _latency,
    BenchPart.COMPILING: lambda _: compiling.compiling(),
    BenchPart.STARTUP: lambda _: startup.startup(),
    BenchPart.SHAPES: _shapes,
    BenchPart.SUBSCRIPTIONS: _subscriptions,
    BenchPart.STREAMING: lambda _: streaming.streaming(),
    BenchPart.LISTS: _lists,
    BenchPart.SCALE: _scale,
    BenchPart.LIMITS: _limits,
    BenchPart.TRIGGERS: _triggers,
    BenchPart.STATISTICS: _statistics,
}
QUICK = (BenchPart.THROUGHPUT, BenchPart.LATENCY, BenchPart.COMPILING)


def _order(row: str) -> tuple[int, str]:
    """Return the place of a row such as `9b` in the table."""
    name = row.split()[0]
    number = name.rstrip("abc")
    return int(number), name.removeprefix(number)


def table(figures: list[Figure]) -> Table:
    """Create the table of all figures, sorted by row."""
    result = Table("row", "figure", "measured", "target", "", "note")
    for one in sorted(figures, key=lambda figure: _order(figure.row)):
        verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[one.is_met]
        result.add_row(one.row, one.name, f"{one.value:,.2f} {one.unit}", one.target, verdict, one.note)
    return result


def _measure(part: BenchPart, is_quick: bool) -> list[Figure]:
    """Measure a part.

    With `is_quick`, a part that is far off its target is measured again, to rule out noise.
    """
    figures = PARTS[part](is_quick)
    return PARTS[part](True) if is_quick and any(one.is_far_off for one in figures) else figures


def main(
    parts: Annotated[list[BenchPart] | None, typer.Argument(help="The parts to measure. Default: all.")] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Measure the most important ratios; exit with 1 if one is far off its target."),
    ] = False,
) -> None:
    """Compare Treadle, as real processes, with bare LangGraph. Prints a table and writes bench/results.json."""
    chosen = parts or (QUICK if quick else tuple(PARTS))
    figures = [figure for part in chosen for figure in _measure(part, quick)]
    RESULTS.write_text(json.dumps([asdict(one) for one in figures], indent=1))
    Console(width=160).print(table(figures))
    far_off = [one for one in figures if one.is_far_off]
    if quick and far_off:
        sys.exit(f"far off their targets: {', '.join(f'row {one.row} {one.name.strip()}' for one in far_off)}")


if __name__ == "__main__":
    typer.run(main)
