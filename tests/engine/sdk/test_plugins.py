"""A package that still imports a module of the engine gets one line that names the new import."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.nodes.registry import load_node_types
from engine.sdk.plugins import MOVED
from engine.sdk.tool import ToolInfo
from engine.tools.entry_points import python_tools

INTERNAL = "the engine is internal to Treadle: import from treadle"
REASONS = [
    ("from engine.nodes.base import NodeType", "engine.nodes.base has moved: import NodeType from treadle"),
    ("from engine.tools.base import ToolFailed", "engine.tools.base has moved: import ToolFailed from treadle"),
    ("from engine.trial import try_node", "engine.trial has moved: import try_node from treadle.testing"),
    ("import engine.schemas", f"No module named 'engine.schemas'; {INTERNAL}"),
    ("from engine.events import Happening", INTERNAL),
    ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
]


@pytest.fixture(params=REASONS, ids=lambda reason: reason[0])
def reason(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Install a package whose module has one import. Gives the end of the line that explains it."""
    source, message = request.param
    (tmp_path / "old_package.py").write_text(f"{source}\n")
    info = tmp_path / "old_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: old-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[treadle.nodes]\nold = old_package:Old\n[treadle.tools]\nold = old_package:old\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield message
    sys.modules.pop("old_package", None)


def test_a_node_type_with_an_old_import_is_explained_in_one_line(reason: str) -> None:
    line = load_node_types().broken["old"]
    assert line.startswith("old_package:Old: ")
    assert reason in line and "\n" not in line


def test_a_tool_with_an_old_import_is_explained_in_one_line(reason: str) -> None:
    [info] = [tool for tool in python_tools() if isinstance(tool, ToolInfo) and tool.name == "old"]
    assert info.problem is not None and info.problem.startswith("old_package:old: ")
    assert reason in info.problem and "\n" not in info.problem


def test_the_modules_that_moved_do_not_exist_any_more() -> None:
    for module in MOVED:
        with pytest.raises(ModuleNotFoundError):
            __import__(module)
