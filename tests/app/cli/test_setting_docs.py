"""docs/settings.md is generated from the settings and up to date."""

import re

import pytest

from app.cli.setting_docs import render_page
from app.settings import Settings
from tests.paths import ROOT

PAGE = ROOT / "docs" / "settings.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text() == render_page(), "the settings have changed: run make docs"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_says_when_to_change_it(name: str) -> None:
    description = Settings.model_fields[name].description or ""
    assert re.search(r"\b(Set|Increase|Reduce|Change|Switch)\b", description)


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if re.search("_(s|days|mb)$", name)])
def test_each_quantity_has_its_unit(name: str) -> None:
    [row] = [line for line in render_page().splitlines() if f"`TREADLE_{name.upper()}` |" in line]
    assert row.split(" | ")[2] in ("seconds", "days", "MiB")
