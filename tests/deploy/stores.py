"""Starts stores as other people run them: behind PgBouncer, and Debian's Postgres and Redis with TLS."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.embedded.os_user import OsUser
from tests.deploy.proxies import free_port
from tests.programs import path_of

START_S = 60.0
PGBOUNCER = """
[databases]
* = host={sockets} port=5432 user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = session
max_client_conn = 200
default_pool_size = 80
"""
POSTGRES = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "max_connections": "120",
    "ssl": "on",
    "ssl_cert_file": "certificate.pem",
    "ssl_key_file": "key.pem",
}


@asynccontextmanager
async def process_of(command: Sequence[str | Path], log: Path) -> AsyncIterator[None]:
    """Run a program for the duration of the block, as the user of the embedded Postgres."""
    user = OsUser.choose()
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, **user.options
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def pgbouncer(folder: Path, database_url: str) -> AsyncIterator[str]:
    """Run PgBouncer in session mode before an embedded Postgres, and yield the URL of the database there."""
    address, _, sockets = database_url.partition("?host=")
    port = free_port()
    (folder / "pgbouncer.ini").write_text(PGBOUNCER.format(sockets=sockets, port=port))
    url = f"postgresql://treadle@127.0.0.1:{port}/{address.rpartition('/')[2]}"
    log = folder / "pgbouncer.log"
    async with process_of([path_of("pgbouncer") or "pgbouncer", folder / "pgbouncer.ini"], log):
        await _until_postgres_responds(url, log)
        yield url


def _programs() -> Path:
    return Path(path_of("postgres") or "postgres").resolve().parent


@asynccontextmanager
async def tls_postgres(folder: Path) -> AsyncIterator[str]:
    """Run Debian's Postgres with the certificate of the folder, and yield its URL without TLS parameters."""
    programs = _programs()
    user, port = OsUser.choose(), free_port()
    data = user.make_private(folder / "cluster")
    created = user.run(programs / "initdb", "-D", data / "data", "-U", "postgres", "--auth=trust", "--no-sync")
    assert created.returncode == 0, created.stderr
    for name in ("certificate.pem", "key.pem"):
        shutil.copy(folder / name, data / "data" / name)
        (data / "data" / name).chmod(0o600)
        shutil.chown(data / "data" / name, data.owner(), data.group())
    options = [part for name, value in {**POSTGRES, "port": str(port)}.items() for part in ("-c", f"{name}={value}")]
    url, log = f"postgresql://postgres@localhost:{port}/postgres", folder / "postgres.log"
    async with process_of([programs / "postgres", "-D", data / "data", *options], log):
        await _until_postgres_responds(f"{url}?sslmode=disable", log)
        yield url


@asynccontextmanager
async def valkey(folder: Path) -> AsyncIterator[str]:
    """Run a Valkey, and yield its URL."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    async with process_of([path_of("valkey-server") or "valkey-server", *options], folder / "valkey.log"):
        url = f"redis://127.0.0.1:{port}/0"
        await _until_redis_responds(url)
        yield url


@asynccontextmanager
async def tls_redis(folder: Path) -> AsyncIterator[str]:
    """Run Debian's Redis with the certificate of the folder, and yield its URL without TLS parameters."""
    port = free_port()
    files = [("--tls-cert-file", folder / "certificate.pem"), ("--tls-key-file", folder / "key.pem")]
    options = ["--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "", "--tls-auth-clients", "no"]
    command = [path_of("redis-server") or "redis-server", *options, *(part for pair in files for part in pair)]
    log = folder / "redis.log"
    async with process_of([*command, "--tls-ca-cert-file", folder / "certificate.pem"], log):
        url = f"rediss://localhost:{port}/0"
        await _until_redis_responds(f"{url}?ssl_cert_reqs=none")
        yield url


async def _until_redis_responds(url: str) -> None:
    async with asyncio.timeout(START_S), Redis.from_url(url) as client:
        while True:
            try:
                await client.ping()
                return
            except (RedisError, OSError):
                await asyncio.sleep(0.05)


async def _until_postgres_responds(url: str, log: Path) -> None:
    try:
        async with asyncio.timeout(START_S):
            while True:
                try:
                    await (await asyncpg.connect(url)).close()
                    return
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(log.read_text()) from None  # noqa: ASYNC240 - a small file of this test
