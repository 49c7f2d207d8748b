"""`treadle doctor`: checks everything that Treadle needs and prints one line per check.

It changes nothing. A line that reports a problem also says what to do about it.
"""

import platform
import sys
import zoneinfo
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from rich.console import Console

from app.cli.check_sign_in import check_sign_in
from app.cli.operations.output import print_json
from app.cli.rotate_key import check_secrets
from app.cli.storage import check_storage
from app.embedded.servers import data_dir_problem, in_use, readable_by_others
from app.errors import StoreError
from app.http_client import plain_client
from app.preflight import (
    clock_difference_s,
    describe_postgres,
    describe_redis,
    postgres_problem,
    postgres_version,
    redis_problem,
    redis_version,
    row_security_problem,
    worker_counts,
)
from app.settings import Settings, unknown_variables
from app.terminal_text import escape_controls
from engine.catalog_file import FILE_NAME, CatalogError, add_models, read_catalog
from engine.chat_models.catalog import open_models
from engine.nodes.registry import load_node_types
from engine.time_zones import describe
from engine.tools.catalog import open_tools
from engine.tools.sql import sql_tools
from persistence.db.migrate import NEWEST, revision
from persistence.db.online_steps import interrupted_until
from persistence.secrets.key_source import KeySource
from persistence.sql_databases import find_role_problems
from web.site import DIST

TOLERATED_S = 5.0
"""A smaller difference of the clocks is no problem."""
CheckResult = tuple[bool, str]
"""Whether a check has passed, and its text."""


async def run_checks(settings: Settings, *, is_json: bool = False) -> bool:
    """Run all checks and print one line for each, or all as JSON.

    The database and Redis of a running `treadle up` on this data folder are checked as well.

    Returns:
        Whether all checks have passed.
    """
    console, configured = Console(), settings
    checks: list[tuple[str, Callable[[Settings], Awaitable[CheckResult]]]] = [
        ("python", _python),
        ("time zones", _time_zones),
        ("settings", _settings),
        ("files", _files),
        ("data", lambda _: _data(configured)),
        ("database", _database),
        ("storage", check_storage),
        ("redis", _redis),
        ("clock", _clock),
        ("server", _server),
        ("workers", _workers),
        ("sign-in", check_sign_in),
        ("page", _page),
        ("node types", _types),
        ("catalog", _catalog),
        ("tools", _tools),
        ("databases", _sql_databases),
        ("models", _models),
        ("secrets", check_secrets),
    ]
    urls = in_use(settings.data_dir)
    if urls is not None:
        settings = settings.model_copy(
            update={"database_url": settings.database_url or urls[0], "redis_url": settings.redis_url or urls[1]}
        )
    has_passed, results = True, []
    for name, check in checks:
        is_ok, text = await check(settings)
        has_passed &= is_ok
        results.append({"check": name, "ok": is_ok, "text": text})
        if is_json:
            continue
        console.print(f"{'[green]ok[/green]' if is_ok else '[red]!![/red]'}  {name:<11}", end="")
        console.print(escape_controls(text), markup=False, highlight=False, soft_wrap=True)
    if is_json:
        print_json(results)
    return has_passed


async def _python(_: Settings) -> CheckResult:
    return sys.version_info >= (3, 11), platform.python_version()


async def _time_zones(_: Settings) -> CheckResult:
    if zoneinfo.TZPATH:
        return False, f"the files of the operating system in {', '.join(zoneinfo.TZPATH)} override {describe()}"
    return True, describe()


async def _settings(_: Settings) -> CheckResult:
    if names := unknown_variables():
        return False, f"no such setting: {', '.join(names)}; docs/settings.md lists them"
    return True, "every TREADLE_ variable is known"


async def _files(settings: Settings) -> CheckResult:
    """Name the files that a process reads if it is started in this folder with this environment."""
    files = {
        "settings": Path(str(Settings.model_config["env_file"])),
        "catalog": settings.catalog_file or Path(FILE_NAME),
        "keys": KeySource.of(settings).path,
    }
    parts = [f"{name}: {path.absolute()}{'' if _exists(path) else ' (does not exist)'}" for name, path in files.items()]
    return True, "; ".join(parts)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # For example, the path is too long.
        return False


async def _data(settings: Settings) -> CheckResult:
    if settings.database_url is not None and settings.redis_url is not None:
        return True, "not used: TREADLE_DATABASE_URL and TREADLE_REDIS_URL are set"
    if problem := data_dir_problem(settings.data_dir):
        return False, problem
    if files := readable_by_others(settings.data_dir):
        return False, f"other users may read {', '.join(map(str, files))}: `chmod 600` them"
    is_in_use = in_use(settings.data_dir) is not None
    return True, str(settings.data_dir.absolute()) + (", in use by a running `treadle up`" if is_in_use else "")


async def _database(settings: Settings) -> CheckResult:
    if settings.database_url is None:
        return True, "TREADLE_DATABASE_URL is not set: `treadle up` starts an embedded Postgres"
    try:
        location, version = describe_postgres(settings.database_url), await postgres_version(settings.database_url)
        if problem := postgres_problem(version):
            return False, f"{location}, version {version}, {problem}"
        current = await revision(settings.database_url) or ""
        if current < NEWEST:
            return (
                False,
                f"{location} (version {version}) lacks migrations: run `treadle migrate`{await _limit(settings)}",
            )
        if current > NEWEST:
            note = f"migrated by a newer Treadle (to {current}; this one knows {NEWEST}): upgrade this host, too"
            return True, f"{location}, version {version}, {note}"
        if problem := await row_security_problem(settings.database_url):
            return False, f"{location}, version {version}, migrated, but without row-level security. {problem}"
    except StoreError as error:
        return False, str(error)
    return True, f"{location}, version {version}, migrated, with row-level security"


async def _limit(settings: Settings) -> str:
    """Say that an interrupted migration has left a limit, if it has."""
    until = await interrupted_until(str(settings.database_url))
    return f", which was interrupted: without it no run is accepted from {until:%Y-%m-%d} on" if until else ""


async def _redis(settings: Settings) -> CheckResult:
    if settings.redis_url is None:
        return True, "TREADLE_REDIS_URL is not set: `treadle up` starts an embedded Redis"
    try:
        text, version = describe_redis(settings.redis_url), await redis_version(settings.redis_url)
        problem = redis_problem(version)
        return problem is None, f"{text}, version {version}{f', {problem}' if problem else ''}"
    except StoreError as error:
        return False, str(error)


async def _clock(settings: Settings) -> CheckResult:
    """Compare the clock of this host with that of the database, by which timers and leases are due."""
    if settings.database_url is None:
        return True, "not checked: no database is configured or running"
    try:
        difference = await clock_difference_s(settings.database_url)
    except StoreError:
        return True, "not checked: correct the database first"
    if abs(difference) <= TOLERATED_S:
        return True, f"within {TOLERATED_S:g} s of the database's"
    direction = "behind" if difference > 0 else "ahead of"
    return False, (
        f"this host's clock is {abs(difference):.0f} s {direction} the database's: correct both by NTP (`timedatectl`). Runs are "
        "not affected; tokens and certificates are"
    )


async def _server(settings: Settings) -> CheckResult:
    address = f"http://{settings.host}:{settings.port}"
    try:
        async with plain_client(timeout_s=5) as client:
            response = await client.get(f"{address}/health")
    except httpx.TransportError:
        return True, f"no server runs at {address}; `treadle up` starts one"
    try:
        down = response.json()["down"]
    except (ValueError, LookupError, TypeError):
        return False, f"the server at {address} is not Treadle: choose another port with --port or TREADLE_PORT"
    if down:
        return False, f"{address} is up, but cannot reach its {' and '.join(down)}"
    return True, f"{address} is up"


async def _workers(settings: Settings) -> CheckResult:
    """Report that no worker is alive where one is needed: a server runs, or runs are queued."""
    if settings.database_url is None:
        return True, "not checked: no database is configured or running"
    try:
        live, queued = await worker_counts(settings.database_url)
    except StoreError:
        return True, "not checked: correct the database first"
    if live:
        return True, f"{live} alive"
    if not queued and not await _is_serving(settings):
        return True, "none is alive; `treadle up` starts one"
    waiting = f"QUEUED runs: {queued}; " if queued else ""
    return False, f"{waiting}no worker is alive, so no run starts: start `treadle worker`, or look at its log"


async def _is_serving(settings: Settings) -> bool:
    try:
        async with plain_client(timeout_s=5) as client:
            return (await client.get(f"http://{settings.host}:{settings.port}/ping")).text == "pong"
    except httpx.TransportError:
        return False


async def _page(_: Settings) -> CheckResult:
    if (DIST / "index.html").exists():
        return True, "built"
    return False, "GraphiQL is not built: run `make setup`"


async def _types(_: Settings) -> CheckResult:
    types = load_node_types()
    if types.broken:
        errors = "; ".join(f"{name}: {reason}" for name, reason in types.broken.items())
        return False, f"{len(types)} usable; cannot be loaded: {errors}"
    return True, ", ".join(types)


async def _catalog(settings: Settings) -> CheckResult:
    try:
        catalog = add_models(read_catalog(settings.catalog_file), settings.models)
    except CatalogError as error:
        return False, str(error)
    entries = {"models": [model.name for model in catalog.models], "MCP servers": catalog.mcp, "databases": catalog.sql}
    text = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in entries.items() if names)
    return (
        True,
        text or f"built-in entries only; add models, servers and databases in {FILE_NAME} or TREADLE_CATALOG_FILE",
    )


async def _tools(settings: Settings) -> CheckResult:
    """Start the MCP servers, as a run would, and report the tools that cannot be used."""
    try:
        catalog = read_catalog(settings.catalog_file)
    except CatalogError:
        return True, "not checked: correct the catalog first"
    async with open_tools(catalog.mcp, sql_tools(catalog.sql, None)) as tools:
        infos = await tools.listed()
    broken = [f"{info.name}: {info.problem}" for info in infos if info.problem]
    usable = f"{len(infos) - len(broken)} usable"
    return not broken, f"{usable}; {'; '.join(broken)}" if broken else usable


async def _sql_databases(settings: Settings) -> CheckResult:
    """Connect to the databases of the tools `sql:<name>`, and report roles that may do anything."""
    try:
        catalog = read_catalog(settings.catalog_file)
    except CatalogError:
        return True, "not checked: correct the catalog first"
    problems = await find_role_problems(catalog.sql)
    if problems:
        return False, "; ".join(f"sql:{name}: {problem}" for name, problem in problems.items())
    return True, f"{len(catalog.sql)} usable"


async def _models(settings: Settings) -> CheckResult:
    """Query the endpoints of models, and check that the variables of their keys are set.

    Models whose key is a secret are left out, because secrets belong to projects.
    """
    try:
        catalog = add_models(read_catalog(settings.catalog_file), settings.models)
    except CatalogError:
        return True, "not checked: correct the catalog first"
    entries = [entry for entry in catalog.models if entry.api_key_secret is None]
    async with open_models(entries) as models:
        infos = await models.listed()
    broken = [f"{info.name}: {info.problem}" for info in infos if not info.available]
    usable = f"{len(infos) - len(broken)} usable"
    return not broken, f"{usable}; {'; '.join(broken)}" if broken else usable
