"""The `treadle` command: parses options, checks the configuration, and starts one kind of process.

The functions import what they need when they are called, so that each command starts fast. An error
that a user can correct ends the command with one line and exit code 1.
"""

import asyncio
import sys
from json import dumps
from pathlib import Path
from typing import Annotated

import structlog
import typer

from app.cli.backup.commands import app as backup_commands
from app.cli.operations.commands import Json, Token, Url
from app.cli.operations.commands import app as operation_commands
from app.cli.project_files.commands import app as project_commands
from app.settings import Settings, load_settings, unknown_variables
from app.terminal_text import escape_controls
from engine.release import VERSION
from persistence.caller import Role

app = typer.Typer(
    name="treadle",
    help="AI workflows over GraphQL: durable runs, live node states.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Gate = Annotated[
    int | None, typer.Option(hidden=True, help="File descriptor of the start gate to wait for before using a store.")
]
Port = Annotated[int | None, typer.Option(help="Port of the GraphQL server. Default: TREADLE_PORT, or 8000.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the embedded servers' data. Default: TREADLE_DATA_DIR, or .treadle.")
]


key_commands = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
app.add_typer(key_commands, name="key")
app.add_typer(operation_commands)
app.add_typer(backup_commands)
app.add_typer(project_commands)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print(f"treadle {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """AI workflows over GraphQL: durable runs, live node states."""


@app.command()
def up(
    port: Port = None,
    data_dir: DataDir = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes. Default: TREADLE_WORKERS, or 1.")
    ] = None,
) -> None:
    """Start Postgres and Redis (unless their URLs are set), migrations, server and workers."""
    from app.errors import CannotStartError
    from app.logging import exit_at_start
    from app.supervisor import up

    settings = _configured(port=port, data_dir=data_dir, workers=workers)
    _check_catalog(settings)
    _check_keys(settings)
    try:
        up.run(settings)
    except (CannotStartError, OSError) as error:
        exit_at_start(settings, error)
    except KeyboardInterrupt:
        # Ctrl-C before the supervisor had started. All child processes have been stopped.
        sys.exit(130)


@app.command()
def server(
    port: Port = None,
    listener: Annotated[int | None, typer.Option(hidden=True, help="File descriptor of a bound socket.")] = None,
    gate: Gate = None,
) -> None:
    """Serve the GraphQL API at /graphql, and /health."""
    import socket

    import uvicorn

    from app.errors import CannotStartError
    from app.logging import exit_at_start
    from app.server.http_server import server_config
    from app.supervisor.supervisor import listen
    from app.tracing import configure_tracing

    settings = _configured(port=port)
    _check_catalog(settings)
    _check_keys(settings)
    _check_stores(settings, gate)
    try:
        configure_tracing("treadle-server")
        bound = listen(settings) if listener is None else socket.socket(fileno=listener)
        # It was inherited. No child process of this one may answer requests.
        bound.set_inheritable(False)
    except CannotStartError as error:
        exit_at_start(settings, error)
    uvicorn.Server(server_config(settings)).run(sockets=[bound])


@app.command()
def worker(gate: Gate = None) -> None:
    """Execute runs."""
    from app.child_process import kill_group_when_orphaned
    from app.errors import CannotStartError
    from app.logging import exit_at_start
    from app.tracing import configure_tracing
    from persistence.db.transient import UnavailableAtStart
    from worker.main import run as run_worker
    from worker.metrics import MetricsPortTaken

    settings = _configured()
    _check_catalog(settings)
    _check_keys(settings)
    _check_stores(settings, gate)
    kill_group_when_orphaned()
    try:
        configure_tracing("treadle-worker")
        run_worker(settings)
    except (CannotStartError, UnavailableAtStart, MetricsPortTaken) as error:
        exit_at_start(settings, error)


@app.command()
def migrate() -> None:
    """Upgrade the database at TREADLE_DATABASE_URL to the newest schema."""
    from app.errors import StoreError
    from app.logging import exit_at_start
    from app.preflight import migrate_database

    settings = _configured()
    if settings.database_url is None:
        exit_at_start(settings, "set TREADLE_DATABASE_URL (`treadle up` migrates its embedded database itself)")
    try:
        asyncio.run(migrate_database(settings.database_url))
    except StoreError as error:
        exit_at_start(settings, error)
    print("migrated")


@app.command()
def rotate_key(data_dir: DataDir = None) -> None:
    """Encrypt every secret under a new key. If it is interrupted, run it again."""
    from app.cli.rotate_key import rotate_keys
    from app.errors import StoreError
    from persistence.secrets.keyring import KeyProblem

    try:
        counts, text = asyncio.run(rotate_keys(_configured(data_dir=data_dir)))
    except (KeyProblem, StoreError) as error:
        sys.exit(f"treadle: {error}")
    print(text)
    if counts.undecryptable:
        names = "\n  ".join(map(escape_controls, counts.undecryptable))
        sys.exit(f"treadle: these secrets cannot be decrypted and are unchanged:\n  {names}")


@key_commands.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[Role, typer.Option(help="What the key may do in its project.")],
    project: Annotated[str, typer.Option(help="Id or name of the project.")] = "default",
    days: Annotated[
        float | None, typer.Option(help="Days until the key expires. Default: never.", min=0.001, max=36_500)
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Create an API key, and print its token, which is shown only once."""
    from app.cli.key import create

    print(create(name, role, project, days, data_dir))


@key_commands.command("list")
def list_keys(data_dir: DataDir = None, json: Json = False) -> None:
    """List all API keys, newest first."""
    from app.cli.key import list_all

    print(list_all(data_dir, is_json=json))


@key_commands.command("revoke")
def revoke_key(
    id: Annotated[str, typer.Argument(help="The id of the key, such as key_01h4….")], data_dir: DataDir = None
) -> None:
    """Revoke an API key. Every server refuses it within 2 seconds."""
    from app.cli.key import revoke

    print(revoke(id, data_dir))


@app.command()
def schema(
    cache: Annotated[
        bool, typer.Option(help="Print what caches of clients need as JSON: types without an id, and possible types.")
    ] = False,
    spec: Annotated[
        bool, typer.Option(help="Print the JSON Schema of specs, with the node types that are installed here.")
    ] = False,
) -> None:
    """Print the GraphQL schema."""
    if spec:
        from engine.nodes.registry import load_node_types
        from engine.validation.spec_schema import spec_schema

        print(dumps(spec_schema(load_node_types()), indent=2, ensure_ascii=False))
        return
    from schema.schema import as_sdl, client_cache

    print(dumps(client_cache(), indent=2) if cache else as_sdl().rstrip())


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A spec, or an example with `spec` and `exampleInputs`, as JSON.")],
    inputs: Annotated[
        str | None, typer.Option(help="Inputs of the run as JSON. Default: those of the example.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show a live table of the nodes.")] = False,
    port: Port = None,
    json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Run a spec on a server that `treadle up` has started, and print its output."""
    from app.cli.arguments import ArgumentError, needs_of, read_arguments
    from app.cli.client import RunRefused
    from app.cli.operations.connection import open_client
    from app.cli.watch import RunWatcher

    _configured(port=port)
    watcher = RunWatcher(open_client(url, token, port), is_live=watch, is_json=json)
    try:
        arguments = read_arguments(file, inputs)
        for need in needs_of(file):
            print(escape_controls(f"This example needs: {need}"), file=sys.stderr if json else sys.stdout)
        status = asyncio.run(watcher.follow(*arguments))
    except (ArgumentError, RunRefused) as error:
        sys.exit(escape_controls(f"treadle: {error}", keep_lines=True))
    except KeyboardInterrupt:
        print(watcher.detach_text)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if status == "COMPLETED" else 1)


@app.command()
def doctor(port: Port = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Check settings, stores, server, models, tools and secrets.

    Say what to do about each problem.
    """
    from app.cli.doctor import run_checks

    if not asyncio.run(run_checks(_configured(port=port, data_dir=data_dir), is_json=json)):
        raise typer.Exit(1)


@app.command()
def new_node(
    name: Annotated[str, typer.Argument(help="Name of the node type, such as send_fax.")],
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the package. Default: treadle-NAME in the working folder.")
    ] = None,
) -> None:
    """Create a Python package with a node type: class, test and installation instructions."""
    from app.cli.new_node import NewNodeError, create

    target = folder or Path(f"treadle-{name.replace('_', '-')}")
    try:
        create(name, target)
    except NewNodeError as error:
        sys.exit(f"treadle: {error}")
    print(f"created {target}. Next: run pip install -e {target}, and restart the server and the workers")


@app.command()
def chaos(
    minutes: Annotated[float, typer.Option(help="Duration of the faults in minutes.", min=0.1)] = 10,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of load and faults; the seed of an earlier run repeats it. Default: random."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Number of worker processes.", min=2)] = 3,
    runs_per_s: Annotated[float, typer.Option(help="Runs started per second.", min=0.1)] = 4,
    lease: Annotated[float, typer.Option(help="Duration of a worker's lease in seconds.", min=1)] = 15,
    recovery: Annotated[
        float, typer.Option(help="Limit for the p99 of the recovery time after a SIGKILL, in seconds.")
    ] = 3,
    keep: Annotated[bool, typer.Option("--keep", help="Keep logs and data even if all guarantees held.")] = False,
) -> None:
    """Kill the processes of a separate Treadle under load, and check all guarantees."""
    import random

    from rich.console import Console

    from app.chaos.suite import Options, run
    from app.errors import EmbeddedError

    chosen = random.randrange(1_000_000) if seed is None else seed
    try:
        has_passed = run(Options(minutes, chosen, workers, runs_per_s, lease, recovery, keep), Console())
    except (EmbeddedError, TimeoutError, OSError) as error:
        sys.exit(f"treadle: {error} (seed {chosen})")
    raise typer.Exit(0 if has_passed else 1)


def _configured(**overrides: object) -> Settings:
    """Load the settings and configure the logs of this process."""
    from app.logging import configure_logging

    settings = load_settings(**overrides)
    configure_logging(settings)
    if names := unknown_variables():
        structlog.get_logger(__name__).warning("settings.unknown", names=names, see="docs/settings.md")
    return settings


def _check_catalog(settings: Settings) -> None:
    from app.logging import exit_at_start
    from engine.catalog_file import CatalogError, add_models, read_catalog

    try:
        add_models(read_catalog(settings.catalog_file), settings.models)
    except CatalogError as error:
        exit_at_start(settings, error)


def _check_keys(settings: Settings) -> None:
    from app.logging import exit_at_start
    from persistence.secrets.key_source import KeySource
    from persistence.secrets.keyring import KeyProblem

    try:
        KeySource.of(settings).keyring()
    except KeyProblem as error:
        exit_at_start(settings, error)


def _check_stores(settings: Settings, gate: int | None) -> None:
    from app.errors import StoreError
    from app.logging import exit_at_start
    from app.preflight import check_stores
    from app.supervisor.start_gate import wait_until_open

    if gate is not None:
        wait_until_open(gate)
    try:
        asyncio.run(check_stores(settings))
    except StoreError as error:
        exit_at_start(settings, error)


def main() -> None:
    app()
