"""The systemd units in deploy/: their commands, settings and times fit to the program."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from app.cli.main import app
from app.settings import Settings
from tests.paths import ROOT

FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
SETTINGS = dict(
    line.split("=", 1) for line in (FOLDER / "treadle.env").read_text().splitlines() if line and line[0] != "#"
)


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_each_unit_runs_a_command_of_the_program(path: Path) -> None:
    program, command = unit(path)["Service"]["ExecStart"].split()
    assert program == "/opt/treadle/bin/treadle"
    assert command in {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_each_unit_does_not_depend_on_the_folder_of_its_caller(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["WorkingDirectory"] == SETTINGS["TREADLE_DATA_DIR"] == "/var/lib/treadle"
    assert service["EnvironmentFile"] == "/etc/treadle/treadle.env"
    assert Path(SETTINGS["TREADLE_CATALOG_FILE"]).is_absolute()


def test_the_file_of_settings_is_valid_and_names_settings_only() -> None:
    names = {name.removeprefix("TREADLE_").lower() for name in SETTINGS}
    assert names <= set(Settings.model_fields)
    Settings(**{name.removeprefix("TREADLE_").lower(): value for name, value in SETTINGS.items() if value})


def test_a_worker_has_more_time_to_stop_than_it_drains() -> None:
    service = unit(FOLDER / "treadle-worker@.service")["Service"]
    assert int(service["TimeoutStopSec"]) > Settings.model_fields["drain_s"].default
    assert service["KillMode"] == "mixed"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_start_after_the_migration(path: Path) -> None:
    after = unit(path)["Unit"]["After"].split()
    is_migration = path.name == "treadle-migrate.service"
    assert is_migration or "treadle-migrate.service" in after
    assert not re.search(r"treadle-(?!migrate)", " ".join(after))
