"""The `treadle` command. Each command composes a process out of the rooms below; nothing else is decided here."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings, load_settings

app = typer.Typer(
    name="treadle",
    help="AI workflows over GraphQL: durable runs, live node states.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Gate = Annotated[int | None, typer.Option(hidden=True, help="A descriptor to wait at before any store is touched.")]
Port = Annotated[int | None, typer.Option(help="Where GraphQL is served.")]
DataDir = Annotated[Path | None, typer.Option(help="Where embedded servers keep their data.")]


@app.command()
def up(
    port: Port = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
) -> None:
    """Starts everything: Postgres and Redis (unless their URLs are set), migrations, the server and the workers."""
    from app.errors import CannotStartError
    from app.supervisor import up

    settings = _configured(port=port, data_dir=data_dir, workers=workers)
    _need_catalog(settings)
    _need_keys(settings)
    try:
        up.run(settings)
    except (CannotStartError, OSError) as wrong:
        sys.exit(f"treadle: {wrong}")
    except KeyboardInterrupt:
        sys.exit(130)  # Before there was anything to supervise; what had started has been stopped.


@app.command()
def server(
    port: Port = None,
    listener: Annotated[int | None, typer.Option(hidden=True, help="A bound socket's descriptor.")] = None,
    gate: Gate = None,
) -> None:
    """Serves GraphQL at /graphql and /health."""
    import socket

    import uvicorn

    from app.errors import CannotStartError
    from app.server.asgi import create_app
    from app.supervisor.supervisor import listen
    from worker.gc_tuning import settle_down

    settings = _configured(port=port)
    _need_catalog(settings)
    _need_keys(settings)
    _need_stores(settings, gate)
    try:
        bound = listen(settings) if listener is None else socket.socket(fileno=listener)
    except CannotStartError as wrong:
        sys.exit(f"treadle: {wrong}")
    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        log_config=None,
        ws_ping_interval=20,
        ws_max_size=4 * 1024 * 1024,
        # A deflate context takes more memory than all the rest of a socket, and more time than it saves on small messages.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
    )
    settle_down()
    uvicorn.Server(config).run(sockets=[bound])


@app.command()
def worker(gate: Gate = None) -> None:
    """Executes runs."""
    from app.child_process import end_group_when_orphaned
    from worker.main import run as run_worker

    settings = _configured()
    _need_catalog(settings)
    _need_keys(settings)
    _need_stores(settings, gate)
    end_group_when_orphaned()
    run_worker(settings)


@app.command()
def migrate() -> None:
    """Brings the database at TREADLE_DATABASE_URL to the newest schema."""
    from app.errors import StoreError
    from app.preflight import migrated

    settings = _configured()
    if settings.database_url is None:
        sys.exit("treadle: set TREADLE_DATABASE_URL; `treadle up` migrates its embedded database by itself")
    try:
        asyncio.run(migrated(settings.database_url))
    except StoreError as wrong:
        sys.exit(f"treadle: {wrong}")
    print("migrated")


@app.command()
def rotate_key(data_dir: DataDir = None) -> None:
    """Encrypts every secret under a new key. Can be stopped, and called again."""
    from app.cli.rotate_key import rotated
    from app.errors import StoreError
    from persistence.secrets.keyring import KeyProblem

    try:
        looked, told = asyncio.run(rotated(_configured(data_dir=data_dir)))
    except (KeyProblem, StoreError) as wrong:
        sys.exit(f"treadle: {wrong}")
    print(told)
    if looked.lost:
        sys.exit("treadle: these cannot be decrypted and stay as they are:\n  " + "\n  ".join(looked.lost))


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
    from app.cli.arguments import GivenError, read
    from app.cli.client import RunRefused
    from app.cli.watch import Watching

    settings = _configured(port=port)
    watching = Watching(f"{settings.host}:{settings.port}", is_live=watch)
    try:
        status = asyncio.run(watching.follow(*read(file, inputs)))
    except (GivenError, RunRefused) as refused:
        sys.exit(f"treadle: {refused}")
    except KeyboardInterrupt:
        print(watching.left)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if status == "COMPLETED" else 1)


@app.command()
def doctor(port: Port = None, data_dir: DataDir = None) -> None:
    """Tells what is configured, reachable and migrated, and what to do about what is not."""
    from app.cli.doctor import examine

    if not asyncio.run(examine(_configured(port=port, data_dir=data_dir))):
        raise typer.Exit(1)


@app.command()
def new_node(
    name: Annotated[str, typer.Argument(help="What the node type is called, such as send_fax.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where it is written; default: treadle-NAME in this folder.")
    ] = None,
) -> None:
    """Writes a package with a node type of your own: its class, its test and how to install it."""
    from app.cli.new_node import NewNodeError, create

    where = folder or Path(f"treadle-{name.replace('_', '-')}")
    try:
        create(name, where)
    except NewNodeError as wrong:
        sys.exit(f"treadle: {wrong}")
    print(f"written to {where}; next: pip install -e {where}, and restart the server and the workers")


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
    from app.errors import EmbeddedError

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


def _need_catalog(settings: Settings) -> None:
    from engine.catalog_file import CatalogError, add_models, read_catalog

    try:
        add_models(read_catalog(settings.catalog_file), settings.models)
    except CatalogError as wrong:
        sys.exit(f"treadle: {wrong}")


def _need_keys(settings: Settings) -> None:
    from persistence.secrets.key_source import Keys
    from persistence.secrets.keyring import KeyProblem

    try:
        Keys.of(settings).ring()
    except KeyProblem as wrong:
        sys.exit(f"treadle: {wrong}")


def _need_stores(settings: Settings, gate: int | None) -> None:
    from app.errors import StoreError
    from app.preflight import need_stores
    from app.supervisor.start_gate import wait_at

    if gate is not None:
        wait_at(gate)
    try:
        asyncio.run(need_stores(settings))
    except StoreError as wrong:
        sys.exit(f"treadle: {wrong}")


def main() -> None:
    app()
