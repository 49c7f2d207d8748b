"""An invalid catalog file stops the start with one line; the doctor reports unusable entries."""

import asyncio
from pathlib import Path

import pytest

from app.cli.doctor import run_checks
from app.settings import Settings
from tests.app.commands import Treadle


@pytest.mark.parametrize("command", ["up", "server", "worker"])
def test_an_invalid_catalog_file_ends_the_start_with_one_line(command: str, tmp_path: Path, treadle: Treadle) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text("[mcp.desk]\n")
    process = treadle(command, TREADLE_CATALOG_FILE=str(path), TREADLE_DATA_DIR=str(tmp_path / "data"))
    assert process.wait(60) == 1
    assert process.communicate()[0] == f"treadle: {path}: `mcp.desk`: give either `command` or `url`\n"


def test_the_doctor_lists_the_catalog_and_reports_servers_that_do_not_start(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text("[mcp.desk]\ncommand = '/no/such/program'\n[sql.shop]\nurl = 'postgresql://x'\n")
    has_passed = asyncio.run(run_checks(Settings(data_dir=tmp_path / "data", catalog_file=path)))
    output = capfd.readouterr().out
    assert not has_passed
    assert "MCP servers: desk; databases: shop" in output
    assert "models     1 usable" in output
    assert "usable; mcp:desk/*: the MCP server 'desk' cannot be used: /no/such/program does not exist" in output


def test_the_doctor_queries_the_endpoints_of_models(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "treadle.toml"
    path.write_text('[[models]]\nname = "local"\nbase_url = "http://127.0.0.1:1/v1"\n')
    models = '[{"name": "gpt", "api_key": "${NO_SUCH_VARIABLE}"}]'
    has_passed = asyncio.run(run_checks(Settings(data_dir=tmp_path / "data", catalog_file=path, models=models)))
    output = capfd.readouterr().out
    assert not has_passed
    assert "models: local, gpt" in output
    assert (
        "1 usable; gpt: the environment variable NO_SUCH_VARIABLE is not set; local: no answer from 127.0.0.1" in output
    )


def test_an_invalid_list_of_models_in_the_environment_ends_the_start_with_one_line(
    tmp_path: Path, treadle: Treadle
) -> None:
    models = '[{"name": "gpt", "key": "sk-canary"}]'
    process = treadle("up", TREADLE_MODELS=models, TREADLE_DATA_DIR=str(tmp_path / "data"))
    assert process.wait(60) == 1
    assert process.communicate()[0] == "treadle: TREADLE_MODELS: `[0].key` is not a known field\n"
