"""The steps of docs/tutorial.md work in their order, in an empty folder, as a newcomer follows them."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from engine.catalog_file import CatalogFile
from tests.end_to_end.support.system import SystemUnderTest
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def shell(folder: Path, port: int, block: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TREADLE_PORT": str(port)}
    done = subprocess.run(
        ["bash", "-euc", block], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


async def test_the_steps_of_the_tutorial_work(system: SystemUnderTest, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    [spec], [program] = blocks("json"), blocks("python")
    (tmp_path / "sort_messages.json").write_text(spec)
    (tmp_path / "publish.py").write_text(program.replace("127.0.0.1:8000", f"127.0.0.1:{system.port}"))
    trial, publish, posts, runs = [
        await asyncio.to_thread(shell, tmp_path, system.port, block) for block in blocks("sh")
    ]
    first, second = map(json.loads, posts.replace("}{", "}\n{").splitlines())
    assert "accounting" in trial
    assert publish == ""
    assert first["runId"] == second["runId"]
    assert "Sort messages" in runs


def test_the_catalog_of_the_tutorial_is_valid() -> None:
    [catalog] = blocks("toml")
    [model] = CatalogFile.model_validate(tomllib.loads(catalog)).models
    assert model.name == "gpt"


def test_every_block_of_the_tutorial_is_known() -> None:
    assert [kind for kind, _ in BLOCKS] == ["text", "json", "sh", "python", "sh", "sh", "sh", "toml"]
