"""The build of the page: when it runs, with which Node.js, and the message when it fails."""

import shutil
from pathlib import Path

import pytest

from web.build import STAMP, WEB, BuildError, build, is_new_enough, machine_node, reason, stamp_of, wheel_node


@pytest.fixture
def project(tmp_path: Path) -> Path:
    tmp_path = tmp_path / "web"
    tmp_path.mkdir()
    for name in ("package.json", "package-lock.json", ".npmrc", "index.html", "graphiql.html", "generate.mjs"):
        shutil.copy(WEB / name, tmp_path / name)
    shutil.copytree(WEB / "src", tmp_path / "src")
    return tmp_path


@pytest.mark.parametrize("version", ["v20.19.0", "v20.20.2\n", "v22.12.0", "v24.19.0"])
def test_a_node_that_vite_supports_is_new_enough(version: str) -> None:
    assert is_new_enough(version)


@pytest.mark.parametrize("version", ["v18.20.8", "v20.18.3", "v21.7.3", "v22.11.0", "", "no such thing"])
def test_a_node_that_vite_does_not_support_is_too_old(version: str) -> None:
    assert not is_new_enough(version)


def test_an_old_node_on_the_path_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho v18.20.8\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine_node() is None


def test_the_node_of_the_wheel_has_a_program_and_an_npm() -> None:
    node = wheel_node()
    assert node.program.is_file()
    assert all(Path(part).is_file() for part in node.npm)


def test_unchanged_inputs_are_not_built_again(project: Path) -> None:
    (project / "dist").mkdir()
    (project / "dist" / STAMP).write_text(stamp_of(project))
    assert build(project) is False


@pytest.mark.parametrize(
    "name", ["package-lock.json", "index.html", "src/main.tsx", "src/graphiql/operations/new.graphql"]
)
def test_a_change_of_any_input_changes_the_stamp(project: Path, name: str) -> None:
    before = stamp_of(project)
    with (project / name).open("a") as file:
        file.write(" ")
    assert stamp_of(project) != before


def test_a_failed_build_raises_one_line_and_leaves_the_last_page(project: Path) -> None:
    (project / "package-lock.json").write_text("{ not json")
    (project / "dist").mkdir()
    (project / "dist" / "index.html").write_text("the last good page")
    with pytest.raises(BuildError, match="installing npm packages failed: ") as caught:
        build(project)
    assert "\n" not in str(caught.value)
    assert (project / "dist" / "index.html").read_text() == "the last good page"
    assert (project / "build.log").read_text()


def test_the_reason_is_the_first_line_with_an_error_message() -> None:
    output = "npm error code EUSAGE\nnpm error\nnpm error The lock file is missing\nnpm error A log is elsewhere\n"
    assert reason(output) == "npm error The lock file is missing"
    assert reason("first\nlast\n") == "last"
    assert reason("") == "there was no output"


def test_a_change_of_the_schema_changes_the_stamp_as_the_types_follow_from_it(project: Path) -> None:
    before = stamp_of(project)
    schema = project.parent / "schema" / "schema.graphql"
    schema.parent.mkdir()
    schema.write_text("type Query { a: Int }")
    assert stamp_of(project) != before
