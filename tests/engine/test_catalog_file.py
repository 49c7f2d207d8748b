"""The file that names servers of tools, databases and models: where it is found, and what a wrong one says."""

from pathlib import Path

import pytest

from engine.catalog_file import CatalogError, from_environment, read_catalog

CATALOGS = [
    ("[mcp.a]\ncommand = 'x'\nurl = 'http://x'", "mcp.a: give either `command` or `url`"),
    ("[mcp.a]", "mcp.a: give either `command` or `url`"),
    ("[mcp.a]\nurl = 'ftp://x'", "mcp.a.url: String should match"),
    ("[mcp.'a b']\nurl = 'http://x'", "mcp.a b.[key]: String should match"),
    ("[mcp.a]\nurl = 'http://x'\nheader = 1", "mcp.a.header: Extra inputs"),
    ("[sql.a]\nurl = 'postgresql://x'\nmax_rows = 0", "sql.a.max_rows: Input should be greater"),
    ("[nonsense]\na = 1", "nonsense: Extra inputs"),
    ("[mcp", "Expected ']'"),
]


@pytest.mark.parametrize(("text", "told"), CATALOGS)
def test_a_bad_catalog_file_is_one_line_that_names_the_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text(text)
    with pytest.raises(CatalogError) as wrong:
        read_catalog(path)
    assert str(wrong.value).startswith(f"{path}: ") and told in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_catalog_file_is_found_in_this_folder_and_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_catalog(None).mcp == {}
    Path("treadle.toml").write_text("[mcp.git]\ncommand = 'git-mcp'\n")
    assert read_catalog(None).mcp["git"].command == "git-mcp"
    with pytest.raises(CatalogError, match="there is no such file"):
        read_catalog(tmp_path / "other.toml")


def test_a_text_takes_what_it_needs_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "s3cret")
    assert from_environment("Bearer ${A_KEY} $A_KEY") == "Bearer s3cret $A_KEY"
    with pytest.raises(CatalogError, match="NO_SUCH_KEY is not set"):
        from_environment("${NO_SUCH_KEY}")
