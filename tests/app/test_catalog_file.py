"""A catalog file that cannot be used stops the start, in a line."""

import asyncio
from pathlib import Path

import pytest

from app.cli.doctor import examine
from app.settings import Settings
from tests.app.commands import Treadle


@pytest.mark.parametrize("command", ["up", "server", "worker"])
def test_a_bad_catalog_file_is_one_line(command: str, tmp_path: Path, treadle: Treadle) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text("[mcp.desk]\n")
    ended = treadle(command, TREADLE_CATALOG_FILE=str(path), TREADLE_DATA_DIR=str(tmp_path / "data"))
    assert ended.wait(60) == 1
    assert ended.communicate()[0] == f"treadle: {path}: mcp.desk: give either `command` or `url`\n"


def test_the_doctor_tells_what_is_listed_and_what_does_not_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text("[mcp.desk]\ncommand = '/no/such/program'\n[sql.shop]\nurl = 'postgresql://x'\n")
    is_well = asyncio.run(examine(Settings(data_dir=tmp_path / "data", catalog_file=path)))
    told = capfd.readouterr().out
    assert not is_well
    assert "MCP servers: desk; databases: shop" in told
    assert "models     1 usable" in told
    assert "usable; mcp:desk/*: the MCP server 'desk' cannot be used: [Errno 2] No such file" in told


def test_the_doctor_asks_the_endpoints_of_models(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text('[[models]]\nname = "local"\nbase_url = "http://127.0.0.1:1/v1"\n')
    models = '[{"name": "gpt", "api_key": "${NO_SUCH_VARIABLE}"}]'
    is_well = asyncio.run(examine(Settings(data_dir=tmp_path / "data", catalog_file=path, models=models)))
    told = capfd.readouterr().out
    assert not is_well
    assert "models: local, gpt" in told
    assert (
        "1 usable; gpt: the environment variable NO_SUCH_VARIABLE is not set; local: no answer from 127.0.0.1" in told
    )


def test_a_bad_list_of_models_in_the_environment_is_one_line(tmp_path: Path, treadle: Treadle) -> None:
    models = '[{"name": "gpt", "key": "sk-canary"}]'
    ended = treadle("up", TREADLE_MODELS=models, TREADLE_DATA_DIR=str(tmp_path / "data"))
    assert ended.wait(60) == 1
    assert ended.communicate()[0] == "treadle: TREADLE_MODELS: 0.key: Extra inputs are not permitted\n"
