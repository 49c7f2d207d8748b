"""`treadle up`: binds the port, starts everything in parallel, and prints the progress.

Server and workers import their modules while the stores start and are migrated, and then wait at
the start gate until the stores are ready.
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

STOPPING = "stopping: workers release their runs first; press Ctrl-C again to stop without waiting"


def run(settings: Settings) -> None:
    """Run Treadle until a signal stops it.

    Raises:
        CannotStartError: The port cannot be bound, or a process or store does not start. Includes
            EmbeddedError and StoreError.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        typer.echo(_starting_line(settings))
        urls, stores = _stores(settings, stack)
        port = listener.getsockname()[1]
        ready = "\n".join(
            [f"ready http://{_address(settings)}:{port}/graphql", *_next_steps(settings, port, urls, stores)]
        )
        asyncio.run(
            supervise(
                settings,
                urls,
                stores,
                listener,
                lambda: _prepare_stores(urls, stores),
                lambda: typer.echo(ready),
                lambda: typer.echo(STOPPING),
            )
        )


def _stores(settings: Settings, stack: ExitStack) -> tuple[tuple[str, str], list[StoreProcess]]:
    """Start the embedded stores, unless their addresses are set.

    Returns:
        (database URL, Redis URL), and the processes of the embedded stores.
    """
    stores: list[StoreProcess] = []

    def launch(store: StoreProcess) -> str:
        stores.append(stack.enter_context(launched(store)))
        return store.url

    database_url = settings.database_url or launch(stack.enter_context(postgres_store(settings.data_dir)))
    redis_url = settings.redis_url or launch(stack.enter_context(redis_store(settings.data_dir)))
    return (database_url, redis_url), stores


async def _prepare_stores(urls: tuple[str, str], stores: list[StoreProcess]) -> None:
    """Wait until both stores respond, and migrate the database.

    Raises EmbeddedError and StoreError.
    """
    # Imported only now, so that the import does not delay the start of the slowest processes.
    from app import preflight

    for store in stores:
        await store.ready()
        await asyncio.to_thread(store.prepare)
    await preflight.redis_version(urls[1])
    await preflight.migrate_database(urls[0])


def _starting_line(settings: Settings) -> str:
    addresses = (("Postgres", settings.database_url), ("Redis", settings.redis_url))
    embedded = [name for name, url in addresses if url is None]
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers or 'no'} workers"
    location = f"; the data is in {settings.data_dir.absolute()}" if embedded else ""
    return f"starting {', '.join([*embedded, 'the server'])} and {workers}{location}"


def _address(settings: Settings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host


def _next_steps(settings: Settings, port: int, urls: tuple[str, str], stores: list[StoreProcess]) -> list[str]:
    program = sys.argv[0] if Path(sys.argv[0]).name == "treadle" else "treadle"
    port_option = "" if port == Settings.model_fields["port"].default else f" --port {port}"
    lines = (
        [f"  open http://{_address(settings)}:{port}/ in a browser: choose a template, and run it"]
        if settings.studio
        else []
    )
    if EXAMPLE.exists():
        lines += ["  or, in another terminal:", f"    {program} run {_shortened(EXAMPLE)} --watch{port_option}"]
    if not settings.workers:
        names = ("TREADLE_DATABASE_URL", "TREADLE_REDIS_URL")
        # Only addresses of embedded stores are printed: other addresses may contain a password.
        variables = [
            f"{name}={shlex.quote(url)}" for name, url in zip(names, urls, strict=True) if _is_embedded(url, stores)
        ]
        command = " ".join([*variables, program])
        lines += ["  there is no worker, so runs wait until you start one:", f"    {command} worker"]
    return [*lines, "  Ctrl-C stops everything; the data stays."]


def _is_embedded(url: str, stores: list[StoreProcess]) -> bool:
    return any(store.url == url for store in stores)


def _shortened(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
