"""`treadle up`: the port, the stores, the migrations, then the processes, in this order; and what a person reads meanwhile."""

import asyncio
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import typer

from app import reach
from app.embedded import postgres, redis
from app.settings import Settings
from app.store import Store
from app.supervise import listen, supervise

EXAMPLE = Path(__file__).parent.parent / "examples" / "support_triage.json"

STOPPING = "stopping: workers hand their runs back first; a second Ctrl-C does not wait for that"


def run(settings: Settings) -> None:
    """Returns when it was told to stop. Raises EmbeddedError, StoreError and CannotStartError."""
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        typer.echo(_starting(settings))
        urls, stores = _stores(settings, stack)
        asyncio.run(reach.migrated(urls[0]))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        port = listener.getsockname()[1]
        ready = "\n".join([f"ready http://{host}:{port}/graphql", *_next(settings, port, urls, stores)])
        asyncio.run(
            supervise(settings, urls, stores, listener, lambda: typer.echo(ready), lambda: typer.echo(STOPPING))
        )


def _stores(settings: Settings, stack: ExitStack) -> tuple[tuple[str, str], list[Store]]:
    """The addresses of both, and those of the two that are our own."""
    stores: list[Store] = []
    database_url, redis_url = settings.database_url, settings.redis_url
    if redis_url is not None:
        asyncio.run(reach.need_redis(redis_url))
    if database_url is None:
        stores.append(stack.enter_context(postgres(settings.data_dir)))
        database_url = stores[-1].url
    if redis_url is None:
        stores.append(stack.enter_context(redis(settings.data_dir)))
        redis_url = stores[-1].url
    return (database_url, redis_url), stores


def _starting(settings: Settings) -> str:
    addresses = (("Postgres", settings.database_url), ("Redis", settings.redis_url))
    embedded = [name for name, url in addresses if url is None]
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers or 'no'} workers"
    place = f"; the data is in {settings.data_dir.absolute()}" if embedded else ""
    return f"starting {', '.join([*embedded, 'the server'])} and {workers}{place}"


def _next(settings: Settings, port: int, urls: tuple[str, str], stores: list[Store]) -> list[str]:
    program = sys.argv[0] if Path(sys.argv[0]).name == "treadle" else "treadle"
    at = "" if port == Settings.model_fields["port"].default else f" --port {port}"
    lines = ["  open it in a browser: the tabs run a workflow and show its nodes live"]
    if EXAMPLE.exists():
        lines += ["  or, in another terminal:", f"    {program} run {_short(EXAMPLE)} --watch{at}"]
    if not settings.workers:
        given = ("TREADLE_DATABASE_URL", "TREADLE_REDIS_URL")
        # Addresses of our own hold no password; others are known to who has set them.
        ours = [f"{name}={shlex.quote(url)}" for name, url in zip(given, urls, strict=True) if _is_ours(url, stores)]
        lines += ["  there is no worker, so runs wait until you start one:", f"    {' '.join([*ours, program])} worker"]
    return [*lines, "  Ctrl-C stops everything; the data stays."]


def _is_ours(url: str, stores: list[Store]) -> bool:
    return any(store.url == url for store in stores)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
