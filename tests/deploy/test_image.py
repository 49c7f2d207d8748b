"""The image: its last stage runs an example as its own user, with a read-only root file system.

This is the short form of `make image`, which also builds `/opt/treadle`: here it runs this checkout.
"""

import subprocess
import sys

import pytest

from tests.paths import ROOT
from tests.programs import installed


@pytest.mark.parametrize("program", installed("unshare"))
def test_an_example_runs_in_the_image(program: str) -> None:
    command = [sys.executable, ROOT / "deploy/image/execute.py", "--checkout"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, (program, result.stdout, result.stderr)
    assert result.stdout.endswith("the example completed as user 10001 with a read-only root file system\n")
