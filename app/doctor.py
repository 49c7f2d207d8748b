"""`treadle doctor`: looks at everything that Treadle needs, changes nothing, and says what to do."""

import platform
import sys
from collections.abc import Awaitable, Callable

import asyncpg
import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.embedded import in_use
from app.settings import Settings, unknown
from engine.nodes.registry import load_node_types
from persistence.migrate import missing
from web.site import DIST

Finding = tuple[bool, str]
"""Whether it is well, and what to say."""


async def examine(settings: Settings) -> bool:
    """Prints a line a finding. True: nothing needs doing."""
    console = Console()
    checks: list[tuple[str, Callable[[Settings], Awaitable[Finding]]]] = [
        ("python", _python),
        ("settings", _settings),
        ("database", _database),
        ("redis", _redis),
        ("server", _server),
        ("page", _page),
        ("node types", _types),
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


async def _database(settings: Settings) -> Finding:
    if settings.database_url is None:
        return True, f"TREADLE_DATABASE_URL is not set: `treadle up` starts its own, in {settings.data_dir}/postgres"
    shown = make_url(settings.database_url).render_as_string()
    try:
        connection = await asyncpg.connect(settings.database_url, timeout=5)
        version = await connection.fetchval("SHOW server_version")
        await connection.close()
        if await missing(settings.database_url):
            return False, f"{shown} (Postgres {version}) lacks migrations: run `treadle migrate`"
    except (OSError, ValueError, asyncpg.PostgresError, SQLAlchemyError, TimeoutError) as wrong:
        return False, f"{shown} cannot be reached: {wrong or type(wrong).__name__}; check TREADLE_DATABASE_URL"
    return True, f"{shown} (Postgres {version}), migrated"


async def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return True, "TREADLE_REDIS_URL is not set: `treadle up` starts its own"
    try:
        async with Redis.from_url(settings.redis_url, socket_connect_timeout=5) as redis:
            info = await redis.info("server")
    except (OSError, ValueError, RedisError) as wrong:
        return False, f"cannot be reached: {wrong}; check TREADLE_REDIS_URL"
    return True, f"Redis {info['redis_version']}"


async def _server(settings: Settings) -> Finding:
    at = f"http://{settings.host}:{settings.port}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answer = await client.get(f"{at}/health")
    except httpx.TransportError:
        return True, f"nothing runs at {at}; `make up` starts it"
    if answer.status_code != 200:
        return False, f"{at}/health answers {answer.status_code}: {answer.text[:200]}"
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
