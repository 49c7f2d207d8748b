"""A catalog file that cannot be used stops the start, in a line."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.doctor import examine
from app.settings import Settings


@pytest.mark.parametrize("command", ["up", "server", "worker"])
def test_a_bad_catalog_file_is_one_line(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text("[mcp.desk]\n")
    monkeypatch.setenv("TREADLE_CATALOG_FILE", str(path))
    monkeypatch.setenv("TREADLE_DATA_DIR", str(tmp_path / "data"))
    ended = CliRunner().invoke(app, [command])
    assert ended.exit_code == 1
    assert ended.output == f"treadle: {path}: mcp.desk: give either `command` or `url`\n"


def test_the_doctor_tells_what_is_listed_and_what_does_not_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text("[mcp.desk]\ncommand = '/no/such/program'\n[sql.shop]\nurl = 'postgresql://x'\n")
    is_well = asyncio.run(examine(Settings(data_dir=tmp_path / "data", catalog_file=path)))
    told = capfd.readouterr().out
    assert not is_well
    assert "MCP servers: desk; databases: shop" in told
    assert "usable; mcp:desk/*: the MCP server 'desk' cannot be used: [Errno 2] No such file" in told
