"""The code, the data folder and the catalog of a process do not depend on the working folder."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.interpreter import module_environment
from tests.paths import ROOT

PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]
TREADLE = "import sys; from app.cli.main import main; sys.argv[0] = 'treadle'; main()"
"""The program of the installed command `treadle`."""


@pytest.fixture
def hostile_folder(open_folder: Path) -> Path:
    """A folder that has packages with the names of ours; they record that they were imported."""
    for package in PACKAGES:
        (open_folder / package).mkdir()
        text = f"open({str(open_folder / 'imported')!r}, 'a').write({package!r}); raise SystemExit('wrong code')"
        (open_folder / package / "__init__.py").write_text(text)
        (open_folder / package / "__main__.py").write_text(text)
    return open_folder


@pytest.fixture
def up(hostile_folder: Path) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", TREADLE, "up", "--port", "0", "--data-dir", str(hostile_folder / "data")],
        cwd=hostile_folder,
        env=module_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.terminate()
    process.communicate(timeout=60)


def test_up_starts_none_of_the_packages_in_the_working_folder(
    up: "subprocess.Popen[str]", hostile_folder: Path
) -> None:
    assert up.stdout is not None
    lines = []
    for line in up.stdout:
        lines.append(line)
        if line.startswith("ready "):
            break
    assert lines[-1].startswith("ready "), "".join(lines)
    assert not (hostile_folder / "imported").exists()


def test_only_one_module_makes_commands_of_python() -> None:
    """Every other place gets the safe path from it."""
    files = [
        path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "node_modules" not in path.parts
    ]
    users = {str(path.relative_to(ROOT)) for path in files if re.search(r"sys\.executable", path.read_text("utf-8"))}
    assert users == {"engine/interpreter.py"}


def test_a_child_finds_the_packages_of_this_process(tmp_path: Path) -> None:
    program = "import engine.interpreter; print(engine.interpreter.__file__)"
    output = subprocess.check_output(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, env=module_environment(os.environ), text=True
    )
    assert Path(output.strip()) == ROOT / "engine" / "interpreter.py"


def test_the_search_path_of_a_child_keeps_the_given_folders_and_no_working_folder() -> None:
    """An empty part of PYTHONPATH is the working folder."""
    environment = module_environment({"PYTHONPATH": f"/plugins{os.pathsep}{os.pathsep}{ROOT}", "A": "b"})
    assert environment == {"PYTHONPATH": f"/plugins{os.pathsep}{ROOT}", "A": "b"}


KINDS = ["writable", "own", *(["foreign", "foreign link"] if os.geteuid() == 0 else [])]
"""Only root can give files away."""


@pytest.mark.parametrize("name", [".env", "treadle.toml"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_another_user_may_have_written_is_not_read(open_folder: Path, name: str, kind: str) -> None:
    file = open_folder / name
    if kind == "foreign link":
        (open_folder / "target").touch(0o600)
        file.symlink_to("target")
        os.lchown(file, 12345, 12345)
    else:
        file.touch(0o600)
    if kind == "foreign":
        os.chown(file, 12345, 12345)
    if kind == "writable":
        file.chmod(0o666)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TREADLE_")}
    program = "from app.settings import load_settings; from engine.catalog_file import read_catalog; "
    program += "load_settings(); read_catalog(None)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=open_folder,
        env=module_environment(environment),
        capture_output=True,
        text=True,
    )
    if kind == "own":
        assert done.returncode == 0, done.stderr
        return
    reason = "can be changed by every user" if kind == "writable" else "belongs to another user (uid 12345)"
    assert f"{file} {reason}" in done.stderr
    assert done.returncode == 1
