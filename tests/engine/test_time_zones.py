"""Time zones come from the package `tzdata`, whatever zone files the operating system has."""

import json
import os
import shutil
import subprocess
import sys
import zoneinfo
from importlib.resources import files
from pathlib import Path

import pytest
import tzdata
from hypothesis import given
from hypothesis import strategies as st

from engine import time_zones
from engine.values.timestamps import find_time_zone
from tests.paths import ROOT

PROGRAM = """
import json, subprocess, sys
from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones
from engine.expressions.evaluator import evaluate, render
from engine.values.timestamps import datetime_format

moment, zone = "2026-12-15T12:00:00Z", "America/Vancouver"
scope = {"at": moment, "zone": zone}
child = "import datetime, zoneinfo; print(datetime.datetime(2026, 12, 15, tzinfo=zoneinfo.ZoneInfo('%s')).strftime('%%z'))"
print(json.dumps({
    "function": datetime_format(moment, "%z", zone),
    "filter": evaluate("at | datetime_format('%z', zone)", scope),
    "isolated filter": render("{% for x in [1] %}{{ at | datetime_format('%z', zone) }}{% endfor %}", scope),
    "library": datetime(2026, 12, 15, tzinfo=ZoneInfo(zone)).strftime("%z"),
    "child process": subprocess.check_output([sys.executable, "-c", child % zone], text=True).strip(),
    "number of zones": str(len(available_timezones()) > 400),
}))
"""


@pytest.fixture
def old_files(tmp_path: Path) -> Path:
    """A folder of zone files in which Vancouver has the offset of UTC."""
    (tmp_path / "America").mkdir()
    shutil.copy(str(files("tzdata") / "zoneinfo" / "UTC"), tmp_path / "America" / "Vancouver")
    return tmp_path


def test_the_package_wins_over_the_zone_files_of_the_system_in_every_process(old_files: Path) -> None:
    environment = {**os.environ, "PYTHONTZPATH": str(old_files), "PYTHONPATH": str(ROOT)}
    before = "from zoneinfo import ZoneInfo; ZoneInfo('America/Vancouver')\n"  # a zone that is cached already
    result = subprocess.run(
        [sys.executable, "-c", before + PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    offsets = json.loads(result.stdout)
    assert offsets.pop("number of zones") == "True"
    assert offsets == dict.fromkeys(offsets, "-0700")


def test_this_process_reads_no_zone_files_of_the_system() -> None:
    assert zoneinfo.TZPATH == ()
    assert os.environ[time_zones.PATH_VARIABLE] == ""
    assert time_zones.describe() == f"package tzdata {tzdata.__version__} (IANA {tzdata.IANA_VERSION})"


@given(st.text(max_size=20) | st.sampled_from(["America", "Europe/", "__init__.py", "../x", "/etc/passwd", "x" * 5000]))
def test_a_name_that_is_no_time_zone_is_an_error_that_names_it(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        with pytest.raises(ValueError, match="there is no time zone"):
            find_time_zone(name)
