"""A process of the chaos suite whose clock is wrong."""

import subprocess
import sys

import pytest

from app.chaos import wrong_clock
from tests.paths import ROOT

READ = """
import json, sys, time
from datetime import UTC, datetime
from engine.runtime import waits
from persistence.db import clock_skew
from app.chaos import nodes, wrong_clock  # last, as in a worker
real = wrong_clock.real_time()
now = [module.datetime.now(UTC) for module in (waits, clock_skew)]
assert isinstance(datetime.now(UTC), waits.datetime) and type(now[0]) is datetime
json.dump([*(at.timestamp() - real for at in now), time.time() - real, time.time_ns() / 1e9 - real], sys.stdout)
"""


@pytest.mark.parametrize("offset_s", [-7200, 0, 45])
def test_every_reading_of_the_time_of_day_is_off_by_the_offset(monkeypatch: pytest.MonkeyPatch, offset_s: int) -> None:
    monkeypatch.setenv(wrong_clock.OFFSET_S, str(offset_s))
    result = subprocess.run([sys.executable, "-c", READ], cwd=ROOT, capture_output=True, text=True, check=True)
    differences = [round(float(text)) for text in result.stdout.strip("[]").split(",")]
    assert differences == [offset_s] * 4
