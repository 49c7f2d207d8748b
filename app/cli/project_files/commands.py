"""The commands `treadle export` and `treadle import`, over the public API."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.operations.commands import Json, Token, Url

app = typer.Typer()
Project = Annotated[
    str | None, typer.Option(help="Id or name of the project. Default: your only project, or `default`.")
]


@app.command("export")
def export_project(
    folder: Annotated[Path, typer.Argument(help="The folder of the files, such as a checkout of Git.")],
    project: Project = None,
    drafts: Annotated[bool, typer.Option("--drafts", help="Write drafts instead of published versions.")] = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write the workflows, triggers and endpoints of a project as files, with names instead of ids, without secrets."""
    from app.cli.arguments import ArgumentError
    from app.cli.client import ApiClient
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.output import print_line
    from app.cli.project_files.endpoints import PortableEndpoint, read_endpoints, write_endpoints
    from app.cli.project_files.remote import RemoteProject, read_project
    from app.cli.project_files.transfer import export
    from app.terminal_text import escape_controls

    async def act(client: ApiClient) -> tuple[RemoteProject, list[PortableEndpoint]]:
        read = await read_project(client, project)
        return read, list((await read_endpoints(client, read)).values())

    found, endpoints = run_against_server(act, url, token)
    try:
        warnings = export(found, folder, drafts=drafts) + write_endpoints(folder, endpoints)
    except ArgumentError as error:
        sys.exit(escape_controls(f"treadle: {error}"))
    for warning in warnings:
        print_line(f"warning: {warning}")
    print_line(f"exported {len(found.workflows)} workflows of {found.name} to {folder}")


@app.command("import")
def import_project(
    folder: Annotated[Path, typer.Argument(help="The folder of the files.")],
    project: Project = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite drafts with changes that no version has.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete triggers and endpoints that the files do not have.")
    ] = False,
    json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Bring a project to the content of files. Content that has the same specHash is left alone."""
    from app.cli.arguments import ArgumentError
    from app.cli.client import ApiClient, RunRefused
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.output import print_json, print_line
    from app.cli.project_files.endpoints import (
        EndpointPlan,
        import_endpoints,
        plan_endpoints,
        read_endpoint_file,
        read_endpoints,
    )
    from app.cli.project_files.plan import ImportStep, StepKind, make_plan, warnings_of
    from app.cli.project_files.portable import read_files
    from app.cli.project_files.remote import read_project
    from app.cli.project_files.transfer import carry_out, check_plan

    async def act(client: ApiClient) -> tuple[list[ImportStep], EndpointPlan, list[str]]:
        try:
            workflows, secrets = read_files(folder)
            wanted = read_endpoint_file(folder)
            found = await read_project(client, project)
            plan = make_plan(found, workflows)
            endpoints = plan_endpoints(await read_endpoints(client, found) if wanted is not None else {}, wanted)
            if not dry_run:
                if not force:
                    check_plan(plan)
                await carry_out(found, plan, prune=prune)
                if wanted is not None:
                    await import_endpoints(await read_project(client, project), endpoints, prune=prune)
        except ArgumentError as error:
            raise RunRefused(str(error)) from error
        warnings = warnings_of(found, plan, secrets)
        if endpoints.surplus and not prune:
            listed = ", ".join(sorted(endpoints.surplus.values()))
            warnings.append(f"endpoints that the files do not have stay: {listed} (--prune deletes them)")
        return plan, endpoints, warnings

    plan, endpoints, warnings = run_against_server(act, url, token)
    if json:
        rows = [
            {
                "workflow": step.wanted.name,
                "step": step.kind,
                "specHash": step.wanted.hash,
                "difference": step.difference(),
            }
            for step in plan
        ]
        print_json({"steps": rows, "endpoints": endpoints.summary(), "warnings": warnings})
        return
    for step in plan:
        print_line(step.summary())
        if dry_run and step.kind is not StepKind.EQUAL:
            print_line(step.difference())
    for line in endpoints.summary():
        print_line(line)
    for warning in warnings:
        print_line(f"warning: {warning}")
    print_line("nothing was changed (--dry-run)" if dry_run else f"imported {len(plan)} workflows")
