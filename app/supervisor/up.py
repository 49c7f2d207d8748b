"""`treadle up`: the port, then everything at once, and what a person reads meanwhile.

Server and workers import while the stores start and are migrated, and wait at the gate for that.
"""

import asyncio
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import typer

from app.embedded.process import StoreProcess, launched
from app.embedded.servers import postgres_store, redis_store
from app.settings import Settings
from app.supervisor.supervisor import listen, supervise

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_triage.json"

STOPPING = "stopping: workers hand their runs back first; a second Ctrl-C does not wait for that"


def run(settings: Settings) -> None:
    """Returns when it was told to stop. Raises EmbeddedError, StoreError and CannotStartError."""
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        typer.echo(_starting(settings))
        urls, stores = _stores(settings, stack)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        port = listener.getsockname()[1]
        ready = "\n".join([f"ready http://{host}:{port}/graphql", *_next(settings, port, urls, stores)])
        asyncio.run(
            supervise(
                settings,
                urls,
                stores,
                listener,
                lambda: _prepared(urls, stores),
                lambda: typer.echo(ready),
                lambda: typer.echo(STOPPING),
            )
        )


def _stores(settings: Settings, stack: ExitStack) -> tuple[tuple[str, str], list[StoreProcess]]:
    """The addresses of both, and those of the two that are our own, launched."""
    stores: list[StoreProcess] = []

    def launch(store: StoreProcess) -> str:
        stores.append(stack.enter_context(launched(store)))
        return store.url

    database_url = settings.database_url or launch(stack.enter_context(postgres_store(settings.data_dir)))
    redis_url = settings.redis_url or launch(stack.enter_context(redis_store(settings.data_dir)))
    return (database_url, redis_url), stores


async def _prepared(urls: tuple[str, str], stores: list[StoreProcess]) -> None:
    """Until both stores answer and the database is migrated. Raises EmbeddedError and StoreError."""
    from app import preflight  # Not sooner: the processes that take the longest to start have been started by now.

    for store in stores:
        await store.ready()
        await asyncio.to_thread(store.prepare)
    await preflight.need_redis(urls[1])
    await preflight.migrated(urls[0])


def _starting(settings: Settings) -> str:
    addresses = (("Postgres", settings.database_url), ("Redis", settings.redis_url))
    embedded = [name for name, url in addresses if url is None]
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers or 'no'} workers"
    place = f"; the data is in {settings.data_dir.absolute()}" if embedded else ""
    return f"starting {', '.join([*embedded, 'the server'])} and {workers}{place}"


def _next(settings: Settings, port: int, urls: tuple[str, str], stores: list[StoreProcess]) -> list[str]:
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


def _is_ours(url: str, stores: list[StoreProcess]) -> bool:
    return any(store.url == url for store in stores)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
