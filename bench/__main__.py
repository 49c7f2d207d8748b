"""`make bench`: measures, prints one table, writes bench/results.json. `--quick` holds the ratios with generous bounds.

`python -m bench throughput latency` measures these parts alone. Quick fails where a figure misses its bound by half.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import compiling, latency, limits, lists, startup, subscriptions, throughput
from bench.measures import Figure
from bench.processes import another_server, deployed

RESULTS = Path(__file__).parent / "results.json"
HALF_RATE = 80.0
"""Runs a second beside row 6: about half of what row 1 gets to on two cores."""


def _latency(is_quick: bool) -> list[Figure]:
    count = 30 if is_quick else 100
    with deployed() as deployment:
        figures = asyncio.run(latency.sync_chain(deployment, count))
        figures += asyncio.run(latency.first_node(deployment, count))
        figures += asyncio.run(latency.stopping(deployment, count))
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
    with deployed() as deployment, another_server(deployment) as port:
        return asyncio.run(limits.limits(deployment, port))


def _scale(_: bool) -> list[Figure]:
    with deployed() as deployment:
        return asyncio.run(lists.scale(deployment))


PARTS: dict[str, Callable[[bool], list[Figure]]] = {
    "throughput": lambda is_quick: throughput.measured(4.0 if is_quick else 10.0, is_quick=is_quick),
    "latency": _latency,
    "compiling": lambda _: compiling.compiling(),
    "startup": lambda _: startup.startup(),
    "subscriptions": _subscriptions,
    "lists": _lists,
    "scale": _scale,
    "limits": _limits,
}
QUICK = ("throughput", "latency", "compiling")


def table(figures: list[Figure]) -> Table:
    shown = Table("row", "what", "measured", "target", "", "note")
    for one in sorted(figures, key=lambda figure: int(figure.row.split()[0])):
        word = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[one.is_met]
        shown.add_row(one.row, one.what, f"{one.value:,.2f} {one.unit}", one.target, word, one.note)
    return shown


def _measured(name: str, is_quick: bool) -> list[Figure]:
    """Quick: a part that is far from its targets is measured once more. A landslide is there again, and noise is not."""
    figures = PARTS[name](is_quick)
    return PARTS[name](True) if is_quick and any(one.is_landslide for one in figures) else figures


def main() -> None:
    is_quick = "--quick" in sys.argv
    chosen = [name for name in PARTS if name in sys.argv] or list(QUICK if is_quick else PARTS)
    figures = [figure for name in chosen for figure in _measured(name, is_quick)]
    RESULTS.write_text(json.dumps([asdict(one) for one in figures], indent=1))
    Console(width=160).print(table(figures))
    slides = [one for one in figures if one.is_landslide]
    if is_quick and slides:
        sys.exit(f"far from their targets: {', '.join(f'row {one.row} {one.what.strip()}' for one in slides)}")


if __name__ == "__main__":
    main()
