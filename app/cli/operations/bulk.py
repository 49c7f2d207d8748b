"""`treadle runs cancel|retry|delete`: changes all runs that match, as a job of the server.

The job is resumable: if the command or the server ends, any server continues it.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from uuid import uuid4

from app.cli.client import ApiClient, RunRefused
from app.cli.operations.objects import project_id

POLL_S = 0.3
"""Seconds between two looks at the job."""
_JOB = "id action matched done failed lastError dryRun createdAt finishedAt"
_READ = f"query ($id: ID!) {{ bulkJob(id: $id) {{ {_JOB} }} }}"


class BulkWord(StrEnum):
    """What the command does with each run. The mutation is `<word>Runs`."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


async def change_runs(
    client: ApiClient,
    word: BulkWord,
    filter: dict[str, Any],
    *,
    max: int,
    is_dry_run: bool,
    project: str | None,
    report: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Start a job, wait for its end, and return it. Raises RunRefused.

    Args:
        client: The server.
        word: What to do.
        filter: The fields of `RunFilter`. Without any, the command is refused.
        max: How many runs at most, the newest first.
        is_dry_run: Whether to count the runs only.
        project: The id or the name of a project.
        report: Called with the job whenever it has progressed.
    """
    if not filter:
        raise RunRefused(f"name the runs to {word}: by --status, --workflow, --tag, --error or --search")
    input = {"filter": filter, "max": max, "dryRun": is_dry_run, "idempotencyKey": str(uuid4())}
    if project is not None:
        input["projectId"] = await project_id(client, project)
    mutation = f"mutation ($input: BulkInput!) {{ bulk: {word}Runs(input: $input) {{ job {{ {_JOB} }} {_ERRORS} }} }}"
    payload = (await client.execute(mutation, input=input))["bulk"]
    if payload["errors"]:
        raise RunRefused("; ".join(_problem(error) for error in payload["errors"]))
    return await _finished(client, payload["job"], report)


async def _finished(client: ApiClient, job: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    shown = None
    while job["finishedAt"] is None:
        if shown != (shown := (job["done"], job["failed"])):
            report(job)
        await asyncio.sleep(POLL_S)
        found = (await client.execute(_READ, id=job["id"]))["bulkJob"]
        if found is None:
            raise RunRefused(f"the job {job['id']} does not exist any more")
        job = found
    return job


def job_text(job: dict[str, Any]) -> str:
    """Say in one line what a job has done so far."""
    runs = f"{job['matched']:,} run{'' if job['matched'] == 1 else 's'}"
    if job["dryRun"]:
        return f"{job['action'].lower()}: would change {runs}"
    text = f"{job['action'].lower()}: {job['done']:,} of {runs}"
    return f"{text}, {job['failed']:,} failed, the last one: {job['lastError']}" if job["failed"] else text


def _problem(error: dict[str, Any]) -> str:
    return "; ".join(f"{one['field']}: {one['message']}" for one in error.get("errors") or ()) or str(error["detail"])


_ERRORS = "errors { detail ... on ValidationProblem { errors { field message } } }"
