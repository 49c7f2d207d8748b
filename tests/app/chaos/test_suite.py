"""A short chaos run: two minutes, a fixed seed and a short lease. Its report is printed."""

import asyncio
import os
import sys

import pytest

from tests.paths import ROOT

SEED = 20
# Other tests run at the same time, so only `make chaos` on a quiet machine checks the recovery
# time.
SHORT = ("--minutes", "2", "--seed", str(SEED), "--lease", "5", "--recovery", "30")


async def test_two_minutes_of_every_fault_violate_no_guarantee(capsys: pytest.CaptureFixture[str]) -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    command = (sys.executable, "-m", "app.cli", "chaos", *SHORT)
    suite = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(600):
            output, _ = await suite.communicate()
    finally:
        if suite.returncode is None:
            suite.kill()  # The kernel ends the processes that it has started.
            await suite.wait()
    with capsys.disabled():
        print(f"\n{output.decode()}", flush=True)  # noqa: T201 (the report is the purpose of this test)
    assert suite.returncode == 0, f"a guarantee was violated; to repeat: treadle chaos {' '.join(SHORT)}"
