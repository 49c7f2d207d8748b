"""The kill suite in its short form: two minutes, a fixed seed, a short lease, and the table that it prints."""

import asyncio
import os
import sys

import pytest

from tests.paths import ROOT

SEED = 20
# The rest of the tests runs beside it: how fast runs go on is judged by `make chaos`, on a machine of its own.
SHORT = ("--minutes", "2", "--seed", str(SEED), "--lease", "5", "--recovery", "30")


async def test_two_minutes_of_every_fault_break_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    command = (sys.executable, "-m", "app.cli", "chaos", *SHORT)
    suite = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(600):
            told, _ = await suite.communicate()
    finally:
        if suite.returncode is None:
            suite.kill()  # The kernel ends what it has started.
            await suite.wait()
    with capsys.disabled():
        print(f"\n{told.decode()}", flush=True)  # noqa: T201 (what it shows is the point of it)
    assert suite.returncode == 0, f"a promise was broken; it happens again with: treadle chaos {' '.join(SHORT)}"
