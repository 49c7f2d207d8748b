"""Treadle runs on other people's stores: PgBouncer, older versions, and TLS with a private authority."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from app.cli.backup.backup import back_up
from app.cli.backup.postgres_programs import _folders
from app.cli.backup.restore import restore
from app.cli.doctor import run_checks
from app.errors import StoreError
from app.preflight import (
    check_stores,
    migrate_database,
    postgres_problem,
    postgres_version,
    redis_problem,
    redis_version,
)
from app.settings import Settings
from tests.app_server import serving
from tests.deploy.proxies import write_certificate
from tests.deploy.stores import pgbouncer, tls_postgres, tls_redis, valkey
from tests.programs import installed
from worker.main import serve

# arq closes its connections by a name that the client of Redis has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
SPEC = {
    "nodes": [
        {"id": "wait", "type": "delay", "config": {"seconds": 0.01}},
        {"id": "a", "type": "transform", "config": {"output": "{{ input.n + 1 }}"}},
    ],
    "edges": [{"source": "wait", "target": "a"}],
}
RUN = """mutation ($spec: JSON!) {
  runAdhoc(input: {spec: $spec, inputs: {n: 1}, mode: SYNC}) { run { status output } errors { detail } } }"""


@asynccontextmanager
async def treadle(settings: Settings) -> AsyncIterator[str]:
    """Run a server and a worker in this process, and yield the address of the server."""
    stop = asyncio.Event()
    async with serving(settings) as address:
        worker = asyncio.create_task(serve(settings, stop))
        try:
            yield address
        finally:
            stop.set()
            await worker


async def completes(settings: Settings) -> None:
    await check_stores(settings)
    async with treadle(settings) as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
        body = (await client.post("/graphql", json={"query": RUN, "variables": {"spec": SPEC}})).json()
    assert body["data"]["runAdhoc"] == {"run": {"status": "COMPLETED", "output": {"a": 2}}, "errors": []}, body


async def back_up_and_restore(url: str, folder: Path, name: str) -> None:
    """Restore a backup of a database into a new one on its server."""
    await back_up(url, folder, Settings())
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    await restore(url.replace("/postgres?", f"/{name}?"), folder)


def embedded_programs() -> dict[int, Path]:
    """Only the programs of the package, which are newer than the server."""
    newest = max(_folders())
    return {newest: _folders()[newest]}


@pytest.mark.parametrize("program", installed("pgbouncer"))
async def test_runs_complete_behind_pgbouncer_in_session_mode(
    program: str, open_folder: Path, database_url: str, redis_url: str
) -> None:
    async with pgbouncer(open_folder, database_url) as url:
        await completes(Settings(database_url=url, redis_url=redis_url))


@pytest.mark.parametrize("program", installed("valkey-server"))
async def test_runs_complete_on_valkey(program: str, open_folder: Path, database_url: str) -> None:
    async with valkey(open_folder) as url:
        await completes(Settings(database_url=database_url, redis_url=url))


@pytest.mark.parametrize("program", [program for program in installed("postgres") if installed("redis-server")])
async def test_runs_complete_on_older_stores_with_certificates_of_a_private_authority(
    program: str, open_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_certificate(open_folder, name="localhost")
    authority = open_folder / "certificate.pem"
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(tls_postgres(open_folder))
        redis = await stack.enter_async_context(tls_redis(open_folder))
        trusted = f"{postgres}?sslmode=verify-full&sslrootcert={authority}", f"{redis}?ssl_ca_certs={authority}"
        assert 14 <= int((await postgres_version(trusted[0])).split(".")[0]) <= 18
        assert int((await redis_version(trusted[1])).split(".")[0]) >= 7
        await migrate_database(trusted[0])
        await completes(Settings(database_url=trusted[0], redis_url=trusted[1]))
        await back_up_and_restore(trusted[0], open_folder / "own", "own")
        # Their TLS is not compiled in, so they need a connection without it.
        monkeypatch.setattr("app.cli.backup.postgres_programs._folders", embedded_programs)
        await back_up_and_restore(f"{postgres}?sslmode=disable", open_folder / "newer", "newer")

        with pytest.raises(StoreError, match=r"none.pem cannot be read: correct sslrootcert in TREADLE_DATABASE_URL"):
            await postgres_version(f"{postgres}?sslmode=verify-full&sslrootcert={open_folder}/none.pem")
        with pytest.raises(StoreError, match=r"none.pem cannot be read: correct ssl_ca_certs in TREADLE_REDIS_URL"):
            await redis_version(f"{redis}?ssl_ca_certs={open_folder}/none.pem")
        monkeypatch.setenv("HOME", str(open_folder))
        with pytest.raises(StoreError, match=r"root certificate file .*: add sslrootcert=FILE to TREADLE_DATABASE_URL"):
            await postgres_version(f"{postgres}?sslmode=verify-full")
        (open_folder / "other").mkdir()
        write_certificate(open_folder / "other", name="localhost")
        other = f"sslmode=verify-full&sslrootcert={open_folder}/other/certificate.pem"
        untrusted: dict[str, Any] = {"database_url": f"{postgres}?{other}", "redis_url": redis}
        for url, version, parameter, setting in (
            (untrusted["database_url"], postgres_version, "sslrootcert", "TREADLE_DATABASE_URL"),
            (untrusted["redis_url"], redis_version, "ssl_ca_certs", "TREADLE_REDIS_URL"),
        ):
            with pytest.raises(
                StoreError, match=rf"certificate is not trusted \(.+\): .*{parameter}=FILE to {setting}"
            ):
                await version(url)
        assert not await run_checks(Settings(port=1, **untrusted))
        assert capsys.readouterr().out.count("certificate is not trusted") == 2


@pytest.mark.parametrize(
    ("version", "is_old"),
    [
        ("9.6.24", True),
        ("13.22", True),
        ("14.0", False),
        ("15.20 (Debian 15.20-0+deb12u1)", False),
        ("18.1", False),
        ("19beta1", False),
    ],
)
def test_a_postgres_that_is_too_old_is_reported(version: str, is_old: bool) -> None:
    assert (postgres_problem(version) is not None) is is_old


@pytest.mark.parametrize(
    ("version", "is_old"), [("6.2.14", True), ("7.0.15", False), ("8.2.3", False), ("unknown", False)]
)
def test_a_redis_that_is_too_old_is_reported(version: str, is_old: bool) -> None:
    assert (redis_problem(version) is not None) is is_old


async def test_doctor_says_what_to_do_about_a_store_that_is_too_old(
    database_url: str, redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stores that are too old are not in the registries, so the limits are raised instead.
    monkeypatch.setattr("app.preflight.OLDEST_POSTGRES", 99)
    monkeypatch.setattr("app.preflight.OLDEST_REDIS", 99)
    assert not await run_checks(Settings(port=1, database_url=database_url, redis_url=redis_url))
    output = capsys.readouterr().out
    assert "is too old: Treadle needs Postgres 99 or newer" in output
    assert "is too old: Treadle needs Redis 99 or newer" in output
