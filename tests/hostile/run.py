"""Runs the attacks against a deployment, and prints the table (`make hostile`).

It starts stores, a server and a worker of its own on loopback, and ends them. The exit status is 1 if
a row misses its bound.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from app.embedded.servers import servers
from persistence.db.migrate import migrate
from tests.hostile.attacks import ATTACKS
from tests.hostile.deployment import AttackedDeployment, deployment
from tests.hostile.report import HEADINGS, AttackRow, as_markdown, as_text
from tests.open_folders import open_folder
from tests.paths import ROOT


async def _main(folder: Path, names: list[str]) -> list[AttackRow]:
    """Run attacks and print the table. Returns its rows."""
    _monitor_loops(folder / "monitor")
    with servers(folder / "data", durable=False) as urls:
        await migrate(urls[0])
        async with deployment(*urls, folder) as target:
            # The attacker has a machine of its own: its work must not take the cores of this one.
            os.nice(10)
            return [row async for row in _rows(target, names)]


def _monitor_loops(folder: Path) -> None:
    """Let the processes that start from now on record what blocks their event loops."""
    folder.mkdir()
    os.environ |= {"LOOP_MONITOR": str(folder), "PYTHONPATH": str(ROOT / "tests" / "hostile" / "loop_monitor")}


async def _rows(target: AttackedDeployment, names: list[str]) -> AsyncIterator[AttackRow]:
    _write(as_text(HEADINGS))
    own = await target.measure_own_times()
    _write(as_text(own.cells()))
    yield own
    for name in names:
        row = await target.row(name, ATTACKS[name](target))
        _write(as_text(row.cells()), *(f"    {problem}" for problem in row.problems[:10]), *row.blocks.lines())
        yield row


def _write(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _run() -> bool:
    """Parse the arguments and run the attacks. Returns whether every row met its bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help="names of attacks; default: all")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    os.environ.pop("TREADLE_DATA_DIR", None)
    with open_folder() as folder:
        rows = asyncio.run(_main(folder, arguments.attacks or list(ATTACKS)))
    if arguments.markdown is not None:
        arguments.markdown.write_text(as_markdown(row.cells() for row in rows) + "\n")
    return not any(row.problems for row in rows)


if __name__ == "__main__":
    sys.exit(0 if _run() else "a row missed its bound")
