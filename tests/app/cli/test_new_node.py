"""`treadle new-node` writes a package that works without changes."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.new_node import NewNodeError, create
from tests.paths import ROOT

FIND = "from engine.nodes.registry import load_node_types as load; t = load(); print(t['send_fax'].title, t.broken)"


def run_python(*arguments: str, cwd: Path, path: str = "") -> str:
    environment = {"PYTHONPATH": f"{ROOT}:{path}", "PATH": ""}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tests_of_the_package_pass_and_treadle_finds_it_after_installation(tmp_path: Path) -> None:
    paths = create("send_fax", tmp_path / "fax")
    assert {path.name for path in paths} == {"pyproject.toml", "README.md", "treadle_send_fax.py", "test_send_fax.py"}
    assert "3 passed" in run_python("-m", "pytest", "-p", "no:cacheprovider", cwd=tmp_path / "fax")
    run_python(
        "-m", "ruff", "check", "--isolated", "--select=E,F,B,UP,RUF", "--line-length=120", ".", cwd=tmp_path / "fax"
    )
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target")
    run_python(*install, str(tmp_path / "site"), str(tmp_path / "fax"), cwd=tmp_path)
    assert run_python("-c", FIND, cwd=tmp_path, path=str(tmp_path / "site")) == "Send fax {}\n"


@pytest.mark.parametrize("name", ["Fax", "send-fax", "1fax", "", "class", "fax_", "../fax", "http", "x" * 51])
def test_a_name_that_is_not_allowed_is_an_error_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(NewNodeError):
        create(name, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    create("fax", tmp_path)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(NewNodeError, match="exists already"):
        create("fax", tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_that_is_not_writable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NewNodeError, match="cannot be written"):
        create("fax", tmp_path / "file")
