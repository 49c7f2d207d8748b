"""The commands `runs`, `workflows`, `triggers`, `endpoints`, `workers`, `queue` and `logs`, over the public API."""

from typing import Annotated, Any

import typer

from engine.states import LogLevel, RunStatus

app = typer.Typer()
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the server, such as https://treadle.example.com. Default: TREADLE_HOST and TREADLE_PORT."
    ),
]
Token = Annotated[
    str | None,
    typer.Option(help="Token or API key, for a server with sign-in. Default: TREADLE_TOKEN, which `ps` does not show."),
]
Project = Annotated[str | None, typer.Option(help="Only of the project with this id or name. Default: all projects.")]
Limit = Annotated[int, typer.Option(help="How many to list at most, newest first.", min=1, max=10_000)]


@app.command()
def runs(
    id: Annotated[
        str | None,
        typer.Argument(
            help="The run to show, or `cancel`, `retry` or `delete` to change all that match. Default: list runs."
        ),
    ] = None,
    status: Annotated[list[RunStatus] | None, typer.Option(help="Only runs with this status; may be repeated.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only runs of the workflow with this id.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only runs with this tag; may be repeated.")] = None,
    error: Annotated[list[str] | None, typer.Option(help="Only runs with this error code; may be repeated.")] = None,
    search: Annotated[
        str | None,
        typer.Option(help="Only runs with this text in the error or the workflow's name, or as a tag or id."),
    ] = None,
    project: Project = None,
    limit: Limit = 25,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the runs to change, and change none.")] = False,
    max: Annotated[int, typer.Option(help="How many runs to change at most, newest first.", min=1, max=10_000)] = 1000,
    json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List runs, newest first, show one, or cancel, retry or delete all that match."""
    from app.cli.operations.bulk import BulkWord
    from app.cli.operations.objects import RUNS

    given = {"status": status, "workflowId": workflow, "tags": tag, "errorCode": error, "search": search}
    where = {name: value for name, value in given.items() if value}
    if id in list(BulkWord):
        _change_runs(BulkWord(id), where, json, url, token, max=max, is_dry_run=dry_run, project=project)
        return
    _list_or_show(RUNS, id, json, url, token, limit=limit, project=project, filter=where)


@app.command()
def workflows(
    id: Annotated[str | None, typer.Argument(help="The workflow to show. Default: list workflows.")] = None,
    search: Annotated[str | None, typer.Option(help="Only workflows with this text in name or description.")] = None,
    project: Project = None,
    limit: Limit = 25,
    json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List workflows, newest first, or show one."""
    from app.cli.operations.objects import WORKFLOWS

    _list_or_show(WORKFLOWS, id, json, url, token, limit=limit, project=project, search=search)


@app.command()
def triggers(
    id: Annotated[str | None, typer.Argument(help="The trigger to show. Default: list triggers.")] = None,
    project: Project = None,
    limit: Limit = 25,
    json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List triggers, newest first, or show one with its last events."""
    from app.cli.operations.objects import TRIGGERS

    _list_or_show(TRIGGERS, id, json, url, token, limit=limit, project=project)


@app.command()
def endpoints(
    id: Annotated[str | None, typer.Argument(help="The endpoint to show. Default: list endpoints.")] = None,
    project: Project = None,
    json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List the endpoints that receive notifications, newest first, or show one with its last deliveries."""
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.objects import ENDPOINTS, list_endpoints
    from app.cli.operations.output import print_json, print_table

    if id is not None:
        _list_or_show(ENDPOINTS, id, json, url, token)
        return
    rows = run_against_server(lambda client: list_endpoints(client, project), url, token)
    if json:
        print_json(rows)
    else:
        print_table(rows, ENDPOINTS.columns, "no endpoints")


@app.command()
def workers(json: Json = False, url: Url = None, token: Token = None) -> None:
    """List the live workers, the oldest first. With sign-in, for admins of all projects."""
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.objects import WORKER_COLUMNS, list_workers
    from app.cli.operations.output import print_json, print_table

    found = run_against_server(list_workers, url, token)
    if json:
        print_json(found)
    else:
        print_table(found, WORKER_COLUMNS, "no worker is alive: start one with `treadle worker`")


@app.command()
def queue(
    id: Annotated[str | None, typer.Argument(help="The run to explain. Default: list the QUEUED runs.")] = None,
    project: Project = None,
    limit: Limit = 25,
    json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List the runs that wait for a worker, and why; or say why one run waits."""
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.objects import QUEUE, explain_run
    from app.cli.operations.output import print_json, print_line

    if id is None:
        _list_or_show(QUEUE, None, json, url, token, limit=limit, project=project, filter={"status": ["QUEUED"]})
        return
    run = run_against_server(lambda client: explain_run(client, id), url, token)
    if json:
        print_json(run)
    else:
        print_line("\n".join([f"{run['id']} is {run['status']}.", *run["explanation"]]))


@app.command()
def logs(
    id: Annotated[str, typer.Argument(help="The run.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until the run ends.")] = False,
    node: Annotated[str | None, typer.Option(help="Only lines of the node with this id.")] = None,
    level: Annotated[LogLevel, typer.Option(help="Only lines of at least this level.")] = LogLevel.DEBUG,
    search: Annotated[str | None, typer.Option(help="Only lines with this text in the message or the fields.")] = None,
    json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Print the log of a run."""
    from app.cli.client import ApiClient
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.logs import LogPrinter

    async def act(client: ApiClient) -> None:
        printer = LogPrinter(client, id, node, level, search, is_json=json)
        await (printer.follow() if follow else printer.print_stored())

    run_against_server(act, url, token)


def _change_runs(word: Any, where: Any, json: bool, url: str | None, token: str | None, **options: Any) -> None:
    from app.cli.client import ApiClient
    from app.cli.operations.bulk import change_runs, job_text
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.output import print_json, print_line

    async def act(client: ApiClient) -> dict[str, Any]:
        def report(job: dict[str, Any]) -> None:
            if not json:
                print_line(job_text(job))

        return await change_runs(client, word, where, **options, report=report)

    job = run_against_server(act, url, token)
    if json:
        print_json(job)
    else:
        print_line(job_text(job))
    if job["failed"]:
        raise typer.Exit(1)


def _list_or_show(kind: Any, id: str | None, json: bool, url: str | None, token: str | None, **arguments: Any) -> None:
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.objects import list_objects, show_object
    from app.cli.operations.output import print_fields, print_json, print_table

    if id is not None:
        found = run_against_server(lambda client: show_object(client, kind, id), url, token)
        (print_json if json else print_fields)(found)
        return
    rows = run_against_server(lambda client: list_objects(client, kind, **arguments), url, token)
    if json:
        print_json(rows)
    else:
        print_table(rows, kind.columns, f"no {kind.plural}")
