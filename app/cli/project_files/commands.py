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
    """Write workflows, triggers, endpoints and alert rules as files, with names instead of ids, without secrets."""
    from app.cli.arguments import ArgumentError
    from app.cli.client import ApiClient
    from app.cli.operations.connection import run_against_server
    from app.cli.operations.output import print_line
    from app.cli.project_files.objects import KINDS, PortableKind, PortableObject, read_objects, write_objects
    from app.cli.project_files.remote import RemoteProject, read_project
    from app.cli.project_files.transfer import export
    from app.terminal_text import escape_controls

    async def act(client: ApiClient) -> tuple[RemoteProject, dict[PortableKind, list[PortableObject]]]:
        read = await read_project(client, project)
        return read, {kind: list((await read_objects(client, read, kind)).values()) for kind in KINDS}

    found, objects = run_against_server(act, url, token)
    try:
        warnings = export(found, folder, drafts=drafts)
        for kind, each in objects.items():
            warnings += write_objects(folder, kind, each)
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
        bool, typer.Option("--prune", help="Delete triggers, endpoints and alert rules that the files do not have.")
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
    from app.cli.project_files.objects import (
        KINDS,
        ObjectPlan,
        import_objects,
        plan_objects,
        read_object_file,
        read_objects,
    )
    from app.cli.project_files.plan import ImportStep, StepKind, make_plan, warnings_of
    from app.cli.project_files.portable import read_files
    from app.cli.project_files.remote import read_project
    from app.cli.project_files.transfer import carry_out, check_plan

    async def act(client: ApiClient) -> tuple[list[ImportStep], list[ObjectPlan], list[str]]:
        try:
            workflows, secrets = read_files(folder)
            files = {kind: read_object_file(folder, kind) for kind in KINDS}
            found = await read_project(client, project)
            plan = make_plan(found, workflows)
            objects = [
                plan_objects(kind, await read_objects(client, found, kind) if wanted is not None else {}, wanted)
                for kind, wanted in files.items()
            ]
            if not dry_run:
                if not force:
                    check_plan(plan)
                await carry_out(found, plan, prune=prune)
                is_needed = any(each.created or each.changed for each in objects)
                changed = await read_project(client, project) if is_needed else found  # With new workflows.
                for each in objects:
                    await import_objects(changed, each, prune=prune)
        except ArgumentError as error:
            raise RunRefused(str(error)) from error
        warnings = warnings_of(found, plan, secrets)
        for each in () if prune else objects:
            warnings += each.warnings()
        return plan, objects, warnings

    plan, objects, warnings = run_against_server(act, url, token)
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
        summaries = {each.kind.listed: each.summary() for each in objects}
        print_json({"steps": rows, **summaries, "warnings": warnings})
        return
    for step in plan:
        print_line(step.summary())
        if dry_run and step.kind is not StepKind.EQUAL:
            print_line(step.difference())
    for each in objects:
        for line in each.summary():
            print_line(line)
    for warning in warnings:
        print_line(f"warning: {warning}")
    print_line("nothing was changed (--dry-run)" if dry_run else f"imported {len(plan)} workflows")
