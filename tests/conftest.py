"""Fixtures with real servers: an embedded Postgres and Redis, one database a test."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

# Imported before any test, because it binds sys.stderr, which pytest replaces during a test.
import mcp.client.stdio  # noqa: F401
import pytest
import structlog
from hypothesis import settings
from redis.asyncio import Redis

from app.embedded.servers import servers
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.db.migrate import migrate
from persistence.runs.run import Run
from tests.clean_databases import CleanDatabases
from tests.end_to_end.support.browser import ScenarioPlayer, open_browser
from tests.frozen_garbage import FrozenGarbage
from tests.journal_worker import DEADLINES, JournalWorker, accept_run, open_worker
from tests.open_folders import open_folder
from tests.peers.http import Peer, http_peer
from tests.programs import installed, path_of

DEFAULT_PROJECT = "prj_00000000000000000000000000"
_garbage = FrozenGarbage()
# The time of an example depends on the load of the machine.
settings.register_profile("treadle", settings(deadline=None))
settings.load_profile("treadle")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Keep the collections of garbage during the next test short."""
    _garbage.freeze()


@pytest.fixture(scope="session", autouse=True)
def data_folder() -> Iterator[Path]:
    """The folder of the tests' secret key, so that tests never use a developer's data folder."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="treadle-test-") as folder:
        patch.setenv("TREADLE_DATA_DIR", folder)
        # Tests start hundreds of processes. Without bytecode each compiles the packages again, in 0.7 s.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """Log tracebacks as the product does: structlog's default colours all local variables, which takes seconds."""
    *before, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before, renderer])


@pytest.fixture(name="open_folder")
def folder_of_test() -> Iterator[Path]:
    """A folder that Postgres's user can enter."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def embedded() -> Iterator[tuple[str, str]]:
    """(database URL, Redis URL) of the servers of this test process."""
    with open_folder() as folder, servers(folder, durable=False) as urls:
        yield urls


@pytest.fixture(scope="session")
async def template(embedded: tuple[str, str]) -> str:
    """The URL of the migrated database that is copied for each test."""
    await migrate(embedded[0])
    return embedded[0]


@pytest.fixture(scope="session")
async def clean_databases(template: str) -> AsyncIterator[CleanDatabases]:
    async with CleanDatabases.of(template) as databases:
        yield databases


@pytest.fixture
async def database_url(clean_databases: CleanDatabases) -> AsyncIterator[str]:
    async with clean_databases.clean() as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, DEADLINES, pool_size=5)
    yield opened
    await opened.close()


@pytest.fixture
async def redis_url(embedded: tuple[str, str]) -> AsyncIterator[str]:
    client = Redis.from_url(embedded[1])
    await client.flushdb()
    await client.aclose()
    yield embedded[1]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def project() -> str:
    return DEFAULT_PROJECT


@pytest.fixture
def caller(project: str) -> Caller:
    return Caller("tester", {project: Role.ADMIN}, may_create_projects=True)


@pytest.fixture
async def worker(database: Database, redis: Redis) -> AsyncIterator[JournalWorker]:
    """A worker that claims runs and writes to them without executing them."""
    async with open_worker(database, redis) as worker:
        yield worker


@pytest.fixture
async def run(database: Database, caller: Caller, project: str) -> Run:
    """A QUEUED run."""
    return (await accept_run(database, caller, project)).run


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A third party's HTTP server on loopback."""
    async with http_peer() as peer:
        yield peer


@pytest.fixture(scope="session", params=installed("chromium"))
async def browser(request: pytest.FixtureRequest) -> AsyncIterator[ScenarioPlayer]:
    """The browser of all scenarios of this test process."""
    async with open_browser(path_of(request.param) or request.param) as browser:
        yield browser
