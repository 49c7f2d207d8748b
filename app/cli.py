"""The `treadle` command. Each command composes a process out of the rooms below; nothing else is decided here."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.settings import Settings, load_settings

app = typer.Typer(
    name="treadle",
    help="AI workflows over GraphQL: durable runs, live node states.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Port = Annotated[int | None, typer.Option(help="Where GraphQL is served.")]
DataDir = Annotated[Path | None, typer.Option(help="Where embedded servers keep their data.")]


@app.command()
def up(
    port: Port = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
) -> None:
    """Starts everything: Postgres and Redis (unless their URLs are set), migrations, the server and the workers."""
    from contextlib import ExitStack

    from app.embedded import postgres, redis
    from app.owner import EmbeddedError
    from app.supervise import CannotStartError, listen, supervise

    settings = _configured(port=port, data_dir=data_dir, workers=workers)
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(listen(settings))
            database_url = settings.database_url or stack.enter_context(postgres(settings.data_dir))
            redis_url = settings.redis_url or stack.enter_context(redis(settings.data_dir))
            _migrated(database_url)
            at = f"http://{settings.host}:{listener.getsockname()[1]}/graphql"
            asyncio.run(supervise(settings, (database_url, redis_url), listener, lambda: _say_ready(at)))
    except (EmbeddedError, CannotStartError, OSError) as wrong:
        sys.exit(f"treadle: {wrong}")
    except KeyboardInterrupt:
        sys.exit(130)  # Before there was anything to supervise; what had started has been stopped.


@app.command()
def server(
    port: Port = None,
    listener: Annotated[int | None, typer.Option(hidden=True, help="A bound socket's descriptor.")] = None,
) -> None:
    """Serves GraphQL at /graphql and /health."""
    import socket

    import uvicorn

    from app.asgi import create_app

    settings = _configured(port=port)
    _need_urls(settings)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        log_config=None,
        ws_ping_interval=20,
        ws_max_size=4 * 1024 * 1024,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=None if listener is None else [socket.socket(fileno=listener)])


@app.command()
def worker() -> None:
    """Executes runs."""
    from worker.main import run as run_worker

    settings = _configured()
    _need_urls(settings)
    run_worker(settings)


@app.command()
def migrate() -> None:
    """Brings the database at TREADLE_DATABASE_URL to the newest schema."""
    settings = _configured()
    if settings.database_url is None:
        sys.exit("treadle: set TREADLE_DATABASE_URL; `treadle up` migrates its embedded database by itself")
    _migrated(settings.database_url)
    print("migrated")


@app.command()
def schema() -> None:
    """Prints the GraphQL schema."""
    from schema.schema import as_sdl

    print(as_sdl().rstrip())


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A spec, or an example with `spec` and `exampleInputs`, as JSON.")],
    inputs: Annotated[str | None, typer.Option(help="The run's input as JSON; default: the example's.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the nodes live.")] = False,
    port: Port = None,
) -> None:
    """Runs a spec on the server that `treadle up` has started."""
    from app.watch import RunRefused, follow

    settings = _configured(port=port)
    spec, given = _read(file, inputs)
    try:
        status = asyncio.run(follow(f"{settings.host}:{settings.port}", spec, given, watch=watch))
    except RunRefused as refused:
        sys.exit(f"treadle: {refused}")
    raise typer.Exit(0 if status == "COMPLETED" else 1)


@app.command()
def doctor(port: Port = None, data_dir: DataDir = None) -> None:
    """Tells what is configured, reachable and migrated, and what to do about what is not."""
    from app.doctor import examine

    if not asyncio.run(examine(_configured(port=port, data_dir=data_dir))):
        raise typer.Exit(1)


@app.command()
def chaos(
    minutes: Annotated[float, typer.Option(help="How long it is attacked.", min=0.1)] = 10,
    seed: Annotated[int | None, typer.Option(help="Repeats the load and the faults of another time.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=2)] = 3,
    runs_per_s: Annotated[float, typer.Option(help="Runs that are started a second.", min=0.1)] = 4,
    lease: Annotated[float, typer.Option(help="Seconds of a lease.", min=1)] = 15,
    recovery: Annotated[float, typer.Option(help="Seconds that a run may stand still after a SIGKILL (p99).")] = 3,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the logs and the data, even if all went well.")] = False,
) -> None:
    """Kills a Treadle of its own in every way there is, and tells whether its promises were kept."""
    import random

    from rich.console import Console

    from app.chaos.suite import Options, run
    from app.owner import EmbeddedError

    chosen = random.randrange(1_000_000) if seed is None else seed
    try:
        is_kept = run(Options(minutes, chosen, workers, runs_per_s, lease, recovery, keep), Console())
    except (EmbeddedError, TimeoutError, OSError) as wrong:
        sys.exit(f"treadle: {wrong} (seed {chosen})")
    raise typer.Exit(0 if is_kept else 1)


def _configured(**given: object) -> Settings:
    from app.logging import configure_logging

    settings = load_settings(**given)
    configure_logging(settings)
    return settings


def _need_urls(settings: Settings) -> None:
    if settings.database_url is None or settings.redis_url is None:
        sys.exit("treadle: set TREADLE_DATABASE_URL and TREADLE_REDIS_URL, or use `treadle up`, which starts its own")


def _migrated(url: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from persistence.migrate import migrate as apply

    try:
        asyncio.run(apply(url))
    except (OSError, SQLAlchemyError) as wrong:
        sys.exit(f"treadle: the database cannot be migrated: {wrong}")


def _read(file: Path, inputs: str | None) -> tuple[Any, Any]:
    try:
        content = json.loads(file.read_text())
        given = json.loads(inputs) if inputs is not None else None
    except OSError as wrong:
        sys.exit(f"treadle: {file} cannot be read: {wrong.strerror}")
    except ValueError as wrong:
        sys.exit(f"treadle: no valid JSON: {wrong}")
    if isinstance(content, dict) and "spec" in content:
        return content["spec"], content.get("exampleInputs", {}) if given is None else given
    return content, {} if given is None else given


def _say_ready(at: str) -> None:
    print(f"ready {at}")
    print("  open it in a browser: the tabs run a workflow and show its nodes live, or in another terminal:")
    print("  .venv/bin/treadle run examples/support_triage.json --watch")
    print("  Ctrl-C stops everything; the data stays.", flush=True)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
