"""Every setting that a file in deploy/ or a document names exists."""

import re
from pathlib import Path

import pytest

from app.settings import PREFIX, Settings
from tests.paths import ROOT

KNOWN = {PREFIX + name.upper() for name in Settings.model_fields}
FILES = [
    path
    for folder in ("deploy", "docs", ".")
    for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*")
    if path.is_file() and path.suffix not in (".lock", ".pyc", ".json", ".png") and "decisions" not in path.parts
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_setting_that_a_file_names_exists(path: Path) -> None:
    names = set(re.findall(r"\bTREADLE_[A-Z0-9_]*[A-Z0-9]\b(?![*…_])", path.read_text()))
    assert names <= KNOWN
