"""`treadle doctor` finds what is amiss, says what to do about it, and changes nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.cli.doctor import examine
from app.settings import Settings


async def examined(capsys: pytest.CaptureFixture[str], **given: object) -> tuple[bool, str]:
    values: dict[str, Any] = {"port": 1, "database_url": None, "redis_url": None, **given}
    well = await examine(Settings(**values))
    return well, capsys.readouterr().out


def line(told: str, name: str) -> str:
    return next(one for one in told.splitlines() if one[4:].startswith(name))


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("/dev/null/data", "as /dev/null is no folder"),
        ("/dev/null", "as /dev/null is no folder"),
        ("/tmp/" + "x" * 300, "File name too long"),
    ],
)
async def test_a_data_folder_that_cannot_be_had_is_a_line_with_the_way_out(
    capsys: pytest.CaptureFixture[str], folder: str, why: str
) -> None:
    well, told = await examined(capsys, data_dir=Path(folder))
    assert not well
    assert why in line(told, "data ")
    assert line(told, "data ").endswith("name another one by --data-dir or TREADLE_DATA_DIR")


async def test_stores_that_are_away_are_lines_with_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    urls = {"database_url": "postgresql://me:hunter2@127.0.0.1:1/app", "redis_url": "redis://:hunter2@127.0.0.1:1/0"}
    well, told = await examined(capsys, **urls)
    assert not well
    assert "Connection refused" in line(told, "database")
    assert "TREADLE_REDIS_URL" in line(told, "redis")
    assert "hunter2" not in told


async def test_a_database_that_lacks_migrations_is_told(
    capsys: pytest.CaptureFixture[str], embedded: tuple[str, str]
) -> None:
    bare = embedded[0].replace("/treadle?", "/postgres?")
    _, told = await examined(capsys, database_url=bare, redis_url=embedded[1])
    assert line(told, "database").endswith("lacks migrations: run `treadle migrate`")


async def test_with_both_stores_it_says_which_they_are(
    capsys: pytest.CaptureFixture[str], database_url: str, redis_url: str
) -> None:
    _, told = await examined(capsys, database_url=database_url, redis_url=redis_url)
    assert line(told, "database").startswith("ok")
    assert line(told, "database").endswith("migrated")
    assert line(told, "redis").startswith("ok")


async def test_what_answers_and_is_no_treadle_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        well, told = await examined(capsys, port=server.sockets[0].getsockname()[1])
    assert not well
    assert "is no Treadle" in line(told, "server")
