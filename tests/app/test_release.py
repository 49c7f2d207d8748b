"""The release: one source of the version, the content of the wheel, and bounded dependencies."""

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import treadle
from engine.release import VERSION
from tests.app.commands import Treadle
from tests.paths import ROOT

ROLLING = {"tzdata"}
"""Packages without an upper bound: newer rules of time zones must be installable at any time."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-P", "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def metadata(wheel: zipfile.ZipFile) -> "dict[str, list[str]]":
    text = wheel.read(f"treadle-{VERSION}.dist-info/METADATA").decode()
    message = Parser().parsestr(text)
    return {name: [str(value) for value in message.get_all(name, [])] for name in message}


def test_the_wheel_has_the_page_the_licence_and_the_data_files(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    expected = [
        "web/dist/index.html",
        "web/dist/graphiql.html",
        "engine/workflow_templates/support_triage.json",
        "schema/schema.graphql",
    ]
    expected += ["persistence/migrations/env.py", "treadle/py.typed", f"treadle-{VERSION}.dist-info/licenses/LICENSE"]
    assert [name for name in expected if name not in names] == []
    for page in ("studio", "graphiql"):
        assert any(re.fullmatch(rf"web/dist/assets/{page}-.*\.js", name) for name in names), page


def test_the_wheel_has_nothing_that_only_development_needs(wheel: zipfile.ZipFile) -> None:
    folders = {name.split("/")[0] for name in wheel.namelist()}
    assert not folders & {"tests", "bench", "docs", "deploy"}
    assert [
        name
        for name in wheel.namelist()
        if re.match(r"web/(src|generated|node_modules|\.|build\.|check\.|package)", name)
    ] == []


def test_every_dependency_has_a_lower_and_an_upper_bound(wheel: zipfile.ZipFile) -> None:
    requirements = metadata(wheel)["Requires-Dist"]
    unbounded = [
        requirement
        for requirement in requirements
        if not (">=" in requirement and ("<" in requirement or requirement.split(">")[0] in ROLLING))
    ]
    assert len(requirements) > 40
    assert unbounded == []


def test_the_version_has_one_source(wheel: zipfile.ZipFile, treadle: Treadle) -> None:
    assert metadata(wheel)["Version"] == [VERSION]
    output, _ = treadle("--version").communicate(timeout=60)
    assert output == f"treadle {VERSION}\n"
    assert re.search(r"^version = ", Path(ROOT / "pyproject.toml").read_text(), re.MULTILINE) is None


def test_authors_can_read_the_version() -> None:
    assert treadle.__version__ == VERSION
