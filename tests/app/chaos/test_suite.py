"""A short chaos run: ninety seconds, a fixed seed and a short lease. A failure shows its report."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

SEED = 20
# Other tests run at the same time, so only `make chaos` on a quiet machine checks the recovery
# time.
SHORT = ("--minutes", "1.5", "--seed", str(SEED), "--lease", "5", "--recovery", "30")


async def test_ninety_seconds_of_every_fault_violate_no_guarantee(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
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
    report, file = output.decode(errors="replace"), tmp_path / "chaos_report.txt"
    file.write_text(report)
    with capsys.disabled():
        print(f"\n{report}", flush=True)  # noqa: T201 (the report is the purpose of this test)
    # A runner of parallel tests shows only the message.
    message = f"exit code {suite.returncode}; the report is in {file}; to repeat: treadle chaos {' '.join(SHORT)}"
    assert suite.returncode == 0, f"{message}\n{report}"
