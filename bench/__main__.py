"""`make bench`: measures, prints one table, writes bench/results.json. `--quick` holds the ratios with generous bounds."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import throughput
from bench.measures import Figure

RESULTS = Path(__file__).parent / "results.json"


def table(figures: list[Figure]) -> Table:
    shown = Table("row", "what", "measured", "target", "", "note")
    for one in figures:
        word = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[one.is_met]
        shown.add_row(one.row, one.what, f"{one.value:,.2f} {one.unit}", one.target, word, one.note)
    return shown


def main() -> None:
    figures = throughput.measured(is_quick="--quick" in sys.argv)
    RESULTS.write_text(json.dumps([asdict(one) for one in figures], indent=1))
    Console(width=160).print(table(figures))


if __name__ == "__main__":
    main()
