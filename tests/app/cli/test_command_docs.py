"""docs/commands.md is generated from the commands and up to date."""

import re

from app.cli.command_docs import render_page
from tests.paths import ROOT

PAGE = ROOT / "docs" / "commands.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == render_page(), "the commands have changed: run make docs"


def test_each_command_and_each_parameter_says_what_it_does() -> None:
    page = render_page()
    assert {"treadle up", "treadle key create", "treadle backup"} <= set(re.findall(r"^## (.+)$", page, re.MULTILINE))
    assert re.findall(r"^\| `[^|]*` \|  ?\|$", page, re.MULTILINE) == []
    assert re.findall(r"^## .+\n\n\n", page, re.MULTILINE) == []
