"""`treadle doctor`: looks at everything that Treadle needs, changes nothing, and says what to do."""

import platform
import sys
from collections.abc import Awaitable, Callable

import httpx
from rich.console import Console

from app.cli.rotate_key import examined
from app.embedded.servers import fault_of, in_use
from app.errors import StoreError
from app.http_client import plain_client
from app.preflight import need_postgres, need_redis, postgres_at, redis_at
from app.settings import Settings, unknown
from engine.catalog_file import FILE_NAME, CatalogError, add_models, read_catalog
from engine.chat_models.catalog import open_models
from engine.nodes.registry import load_node_types
from engine.tools.catalog import open_tools
from engine.tools.sql import sql_tools
from persistence.db.migrate import missing
from web.site import DIST

Finding = tuple[bool, str]
"""Whether it is well, and what to say."""


async def examine(settings: Settings) -> bool:
    """Prints a line a finding. True: nothing needs doing."""
    console, asked = Console(), settings
    checks: list[tuple[str, Callable[[Settings], Awaitable[Finding]]]] = [
        ("python", _python),
        ("settings", _settings),
        ("data", lambda _: _data(asked)),
        ("database", _database),
        ("redis", _redis),
        ("server", _server),
        ("page", _page),
        ("node types", _types),
        ("catalog", _catalog),
        ("tools", _tools),
        ("models", _models),
        ("secrets", examined),
    ]
    urls = in_use(settings.data_dir)
    if urls is not None:
        settings = settings.model_copy(
            update={"database_url": settings.database_url or urls[0], "redis_url": settings.redis_url or urls[1]}
        )
    well = True
    for name, check in checks:
        is_well, told = await check(settings)
        well &= is_well
        console.print(f"{'[green]ok[/green]' if is_well else '[red]!![/red]'}  {name:<11}", end="")
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    return well


async def _python(_: Settings) -> Finding:
    return sys.version_info >= (3, 11), platform.python_version()


async def _settings(_: Settings) -> Finding:
    if names := unknown():
        return False, f"no such setting: {', '.join(names)}; docs/operations.md lists them"
    return True, "every TREADLE_ variable is known"


async def _data(settings: Settings) -> Finding:
    if settings.database_url is not None and settings.redis_url is not None:
        return True, "none: both stores are elsewhere"
    if in_use(settings.data_dir) is not None:
        return True, f"{settings.data_dir.absolute()}, in use by a running `treadle up`"
    wrong = fault_of(settings.data_dir)
    return wrong is None, wrong or str(settings.data_dir.absolute())


async def _database(settings: Settings) -> Finding:
    if settings.database_url is None:
        return True, "TREADLE_DATABASE_URL is not set: `treadle up` starts its own"
    try:
        place, version = postgres_at(settings.database_url), await need_postgres(settings.database_url)
        if await missing(settings.database_url):
            return False, f"{place} (version {version}) lacks migrations: run `treadle migrate`"
    except StoreError as wrong:
        return False, str(wrong)
    return True, f"{place}, version {version}, migrated"


async def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return True, "TREADLE_REDIS_URL is not set: `treadle up` starts its own"
    try:
        return True, f"{redis_at(settings.redis_url)}, version {await need_redis(settings.redis_url)}"
    except StoreError as wrong:
        return False, str(wrong)


async def _server(settings: Settings) -> Finding:
    at = f"http://{settings.host}:{settings.port}"
    try:
        async with plain_client(timeout_s=5) as client:
            answer = await client.get(f"{at}/health")
    except httpx.TransportError:
        return True, f"nothing runs at {at}; `treadle up` starts it"
    try:
        down = answer.json()["down"]
    except (ValueError, LookupError, TypeError):
        return False, f"what answers at {at} is no Treadle: choose another port by --port or TREADLE_PORT"
    if down:
        return False, f"{at} is up, and does not reach its {' and '.join(down)}"
    return True, f"{at} is up"


async def _page(_: Settings) -> Finding:
    if (DIST / "index.html").exists():
        return True, "built"
    return False, "GraphiQL is not built: run `make setup`"


async def _types(_: Settings) -> Finding:
    types = load_node_types()
    if types.broken:
        told = "; ".join(f"{name}: {why}" for name, why in types.broken.items())
        return False, f"{len(types)} usable; cannot be loaded: {told}"
    return True, ", ".join(types)


async def _catalog(settings: Settings) -> Finding:
    try:
        catalog = add_models(read_catalog(settings.catalog_file), settings.models)
    except CatalogError as wrong:
        return False, str(wrong)
    found = {"models": [model.name for model in catalog.models], "MCP servers": catalog.mcp, "databases": catalog.sql}
    told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in found.items() if names)
    return True, told or f"nothing beyond what is built in; {FILE_NAME} or TREADLE_CATALOG_FILE adds to it"


async def _tools(settings: Settings) -> Finding:
    """Servers of tools are started for it, as they would be for a run."""
    try:
        catalog = read_catalog(settings.catalog_file)
    except CatalogError:
        return True, "the catalog comes first"
    async with open_tools(catalog.mcp, sql_tools(catalog.sql, None)) as tools:
        infos = await tools.listed()
    broken = [f"{info.name}: {info.problem}" for info in infos if info.problem]
    told = f"{len(infos) - len(broken)} usable"
    return not broken, f"{told}; {'; '.join(broken)}" if broken else told


async def _models(settings: Settings) -> Finding:
    """Endpoints are asked, keys of the environment looked up; keys that are secrets belong to projects."""
    try:
        catalog = add_models(read_catalog(settings.catalog_file), settings.models)
    except CatalogError:
        return True, "the catalog comes first"
    entries = [entry for entry in catalog.models if entry.api_key_secret is None]
    async with open_models(entries) as models:
        infos = await models.listed()
    broken = [f"{info.name}: {info.problem}" for info in infos if not info.available]
    told = f"{len(infos) - len(broken)} usable"
    return not broken, f"{told}; {'; '.join(broken)}" if broken else told
