"""`treadle doctor` reports each problem in one line that says what to do, and changes nothing."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import tzdata

from app.cli.doctor import run_checks
from app.settings import Settings
from persistence.caller import Caller
from persistence.db.database import Database, dsn
from persistence.maintenance.presence import Presence
from tests.journal_worker import accept_run


async def doctor(capsys: pytest.CaptureFixture[str], **settings: object) -> tuple[bool, str]:
    """Return whether all checks have passed, and the output."""
    values: dict[str, Any] = {"port": 1, "database_url": None, "redis_url": None, **settings}
    has_passed = await run_checks(Settings(**values))
    return has_passed, capsys.readouterr().out


def line(output: str, name: str) -> str:
    """Return the line of one check."""
    return next(one for one in output.splitlines() if one[4:].startswith(name))


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("/dev/null/data", "because /dev/null is not a folder"),
        ("/dev/null", "because /dev/null is not a folder"),
        ("/tmp/" + "x" * 300, "File name too long"),
    ],
)
async def test_an_unusable_data_folder_is_reported_with_a_solution(
    capsys: pytest.CaptureFixture[str], folder: str, reason: str
) -> None:
    has_passed, output = await doctor(capsys, data_dir=Path(folder))
    assert not has_passed
    assert reason in line(output, "data ")
    assert line(output, "data ").endswith("choose another folder with --data-dir or TREADLE_DATA_DIR")


async def test_unavailable_stores_are_reported_with_a_solution_and_without_passwords(
    capsys: pytest.CaptureFixture[str],
) -> None:
    urls = {"database_url": "postgresql://me:hunter2@127.0.0.1:1/app", "redis_url": "redis://:hunter2@127.0.0.1:1/0"}
    has_passed, output = await doctor(capsys, **urls)
    assert not has_passed
    assert "Connection refused" in line(output, "database")
    assert "TREADLE_REDIS_URL" in line(output, "redis")
    assert "hunter2" not in output


async def test_a_database_without_migrations_is_reported(
    capsys: pytest.CaptureFixture[str], embedded: tuple[str, str]
) -> None:
    unmigrated = embedded[0].replace("/treadle?", "/postgres?")
    _, output = await doctor(capsys, database_url=unmigrated, redis_url=embedded[1])
    assert line(output, "database").endswith("lacks migrations: run `treadle migrate`")


async def test_a_database_of_a_newer_release_is_named(
    capsys: pytest.CaptureFixture[str], database: Database, database_url: str
) -> None:
    await database.pool.execute("UPDATE alembic_version SET version_num = '9999'")
    _, output = await doctor(capsys, database_url=database_url)
    assert "migrated by a newer Treadle (to 9999" in line(output, "database")


@pytest.mark.parametrize(("seconds", "text"), [(-3600, "3600 s ahead of"), (90, "90 s behind")])
async def test_a_wrong_clock_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, database_url: str, seconds: int, text: str
) -> None:
    _, output = await doctor(capsys, database_url=database_url)
    assert line(output, "clock").startswith("ok")
    now = time.time
    monkeypatch.setattr("app.preflight.time.time", lambda: now() - seconds)
    has_passed, output = await doctor(capsys, database_url=database_url)
    assert not has_passed
    assert f"this host's clock is {text} the database's: correct both by NTP" in line(output, "clock")


async def test_the_checks_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    has_passed = await run_checks(Settings(port=1, data_dir=Path("/dev/null"), database_url=None), is_json=True)
    results = json.loads(capsys.readouterr().out)
    assert not has_passed
    [data] = [one for one in results if one["check"] == "data"]
    assert not data["ok"]
    assert "choose another folder" in data["text"]
    assert {name: results[0][name] for name in ("check", "ok")} == {"check": "python", "ok": True}


async def test_usable_stores_are_named(capsys: pytest.CaptureFixture[str], database_url: str, redis_url: str) -> None:
    _, output = await doctor(capsys, database_url=database_url, redis_url=redis_url)
    assert line(output, "database").startswith("ok")
    assert line(output, "database").endswith("migrated, with row-level security")
    assert line(output, "redis").startswith("ok")
    assert line(output, "storage").endswith("no runs; 100,000 MB for each project")


async def test_the_version_of_the_time_zones_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, output = await doctor(capsys)
    assert line(output, "time zones").startswith("ok")
    assert line(output, "time zones").endswith(f"package tzdata {tzdata.__version__} (IANA {tzdata.IANA_VERSION})")
    monkeypatch.setattr("zoneinfo.TZPATH", ("/usr/share/zoneinfo",))
    has_passed, output = await doctor(capsys)
    assert not has_passed
    assert "operating system in /usr/share/zoneinfo override" in line(output, "time zones")


async def test_the_files_in_use_are_named_with_their_whole_paths(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "treadle.toml").write_text("")
    _, output = await doctor(capsys, data_dir=Path("data"))
    assert line(output, "files").endswith(
        f"settings: {tmp_path}/.env (does not exist); catalog: {tmp_path}/treadle.toml; "
        f"keys: {tmp_path}/data/secret.key (does not exist)"
    )


async def test_a_server_that_is_not_treadle_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello")
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        has_passed, output = await doctor(capsys, port=server.sockets[0].getsockname()[1])
    assert not has_passed
    assert "is not Treadle" in line(output, "server")


async def test_runs_that_wait_for_a_worker_that_nobody_started_are_reported(
    capsys: pytest.CaptureFixture[str], database: Database, database_url: str, caller: Caller, project: str
) -> None:
    _, output = await doctor(capsys, database_url=database_url)
    assert line(output, "workers").endswith("none is alive; `treadle up` starts one")
    await accept_run(database, caller, project)
    has_passed, output = await doctor(capsys, database_url=database_url)
    assert not has_passed
    assert "QUEUED runs: 1; no worker is alive" in line(output, "workers")
    presence = Presence(dsn(database_url), database.pool, "worker", 43, "host", 1)
    assert await presence.acquire()
    _, output = await doctor(capsys, database_url=database_url)
    assert line(output, "workers").endswith("1 alive")
    await presence.unregister()
