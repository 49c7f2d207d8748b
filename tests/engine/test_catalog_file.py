"""Tests of reading the catalog file: where it is looked for, and the messages for its errors."""

from pathlib import Path

import pytest

from engine.catalog_file import CatalogError, expand_variables, read_catalog

CATALOGS = [
    ("[mcp.a]\ncommand = 'x'\nurl = 'http://x'", "`mcp.a`: give either `command` or `url`"),
    ("[mcp.a]", "`mcp.a`: give either `command` or `url`"),
    ("[mcp.a]\nurl = 'ftp://x'", "`mcp.a.url` must match the pattern"),
    ("[mcp.'a b']\nurl = 'http://x'", "`mcp.a b.[key]` must match the pattern"),
    ("[mcp.a]\nurl = 'http://x'\nheader = 1", "`mcp.a.header` is not a known field"),
    ("[sql.a]\nurl = 'postgresql://x'\nmax_rows = 0", "`sql.a.max_rows` must be at least 1"),
    ("[nonsense]\na = 1", "`nonsense` is not a known field"),
    ("[mcp", "Expected ']'"),
]


@pytest.mark.parametrize(("text", "message"), CATALOGS)
def test_an_error_in_a_catalog_file_is_one_line_that_names_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text(text)
    with pytest.raises(CatalogError) as error:
        read_catalog(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_catalog_file_in_the_current_folder_is_optional_and_a_file_named_by_path_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_catalog(None).mcp == {}
    Path("treadle.toml").write_text("[mcp.git]\ncommand = 'git-mcp'\n")
    assert read_catalog(None).mcp["git"].command == "git-mcp"
    with pytest.raises(CatalogError, match="there is no such file"):
        read_catalog(tmp_path / "other.toml")


def test_environment_variables_are_expanded_and_an_unset_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "s3cret")
    assert expand_variables("Bearer ${A_KEY} $A_KEY") == "Bearer s3cret $A_KEY"
    with pytest.raises(CatalogError, match="NO_SUCH_KEY is not set"):
        expand_variables("${NO_SUCH_KEY}")
