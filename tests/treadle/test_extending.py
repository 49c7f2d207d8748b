"""The example package of docs/extending.md works as it is written there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.paths import ROOT
from treadle import NodeType
from treadle import __all__ as stable_names

DOCUMENT = (ROOT / "docs" / "extending.md").read_text("utf-8")
NODE, TEST, TOOL = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
FIND = """
import asyncio
from engine.nodes.registry import load_node_types
from engine.tools.entry_points import python_tools
types = load_node_types()
print(types["word_count"].title, types.broken, [tool.info.name for tool in python_tools()])
"""


def run_python(*arguments: str, cwd: Path) -> str:
    environment = {"PYTHONPATH": f"{ROOT}:{cwd}"}
    result = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def entry_points() -> str:
    """The entry points of the document, in the format of an installed package."""
    groups: dict[str, dict[str, str]] = {}
    for block in re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL):
        groups |= tomllib.loads(block)["project"]["entry-points"]
    return "\n".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in groups.items()
    )


def test_the_tests_of_the_example_pass(tmp_path: Path) -> None:
    (tmp_path / "treadle_word_count.py").write_text(NODE)
    (tmp_path / "test_word_count.py").write_text(TEST)
    assert "2 passed" in run_python("-m", "pytest", "-p", "no:cacheprovider", "-q", cwd=tmp_path)


def test_the_node_type_and_the_tool_of_the_example_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "treadle_word_count.py").write_text(NODE)
    (tmp_path / "treadle_tickets.py").write_text(TOOL)
    info = tmp_path / "example-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
    (info / "entry_points.txt").write_text(entry_points())
    assert run_python("-c", FIND, cwd=tmp_path) == "Count words {} ['ticket_status']\n"


def test_the_document_names_only_attributes_that_exist() -> None:
    for attribute in re.findall(r"`NodeType\.(\w+)(?: = True)?` \|$", DOCUMENT, re.MULTILINE):
        assert hasattr(NodeType, attribute)
    for block in (NODE, TEST, TOOL):
        for names in re.findall(r"^from treadle import (.+)$", block, re.MULTILINE):
            assert set(names.split(", ")) <= set(stable_names)
