"""Start runs of exposed workflows by their names, and read them, for plain HTTP and for MCP.

It finds the published version that a name means, and calls `start.run_workflow`: there is no second way to
start runs. So roles, limits, idempotency and durability are those of the mutation.
"""

from dataclasses import dataclass
from typing import Any, Literal

from engine.states import RunMode, RunStatus, WaitKind
from engine.types import JSON
from persistence.problems import NotFound, invalid
from persistence.runs.run import Run
from persistence.runs.waits import Wait
from persistence.workflows.exposures import PublishedExposure
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import QUERIES
from resolvers.runs import start
from resolvers.runs.large_values import run_value
from resolvers.workflows.exposures import list_exposed

Channel = Literal["http", "mcp"]
"""The flag of an exposure that a caller uses."""


@dataclass(frozen=True, slots=True)
class ExposedCall:
    """The call of an exposed workflow.

    Attributes:
        name: The name of the exposure.
        inputs: The inputs of the run.
        project: The id or the name of the project; None to look in all projects of the caller.
        wait_ms: How long to wait for the end of the run; 0 to return when it is accepted.
    """

    name: str
    inputs: JSON
    project: str | None = None
    wait_ms: int = 30_000
    idempotency_key: str | None = None


async def find(context: Context, channel: Channel, name: str, project: str | None) -> PublishedExposure:
    """Return the published version that a name means for the caller.

    Raises:
        NotFound: No workflow that the caller may run is exposed under the name.
        Invalid: Workflows of several projects are, and none of them is chosen.
    """
    found = [one for one in await list_exposed(context, project=project, name=name) if getattr(one.exposure, channel)]
    if not found:
        raise NotFound(
            name, "It is the name of a published workflow that is exposed, in a project where you may run it."
        )
    if len(found) > 1:
        ids = ", ".join(one.exposure.project_id for one in found)
        raise invalid("project", "AMBIGUOUS", f"several of your projects expose {name!r}: choose one of {ids}")
    return found[0]


async def run_exposed(context: Context, channel: Channel, call: ExposedCall) -> Run:
    """Start a run of an exposed workflow, and wait until it is idle, at most `call.wait_ms`.

    Raises:
        NotFound, Invalid: As `find`, or the inputs do not match the schema of the version.
        Conflict: The idempotency key was used for other inputs.
        Busy: A limit of runs is reached.
    """
    chosen = await find(context, channel, call.name, call.project)
    arguments = start.StartArguments(
        workflow_id=chosen.exposure.workflow_id,
        version_id=chosen.version_id,
        inputs=call.inputs,
        mode=RunMode.SYNC if call.wait_ms else RunMode.ASYNC,
        timeout_ms=call.wait_ms,
        idempotency_key=call.idempotency_key,
        is_exposed=True,
    )
    return await start.run_workflow(context, arguments)


async def read_run(context: Context, run_id: str) -> Run:
    """Return a run that the caller may see. Raises NotFound."""
    run = await context.loaders.run.load(run_id)
    if run is None:
        raise NotFound(run_id)
    require(context.caller, QUERIES["run"], run.project_id)
    return run


async def report(context: Context, run: Run) -> dict[str, Any]:
    """Return what plain HTTP and MCP say of a run. A large output is a JsonText."""
    has_output = run.status is RunStatus.COMPLETED
    return {
        "runId": run.id,
        "status": run.status,
        "output": await run_value(context, run, "output") if has_output else None,
        "error": run.error and {"code": run.error.code, "message": run.error.message, "nodeId": run.error.node_id},
        "questions": [] if run.status.is_terminal else [_question(wait) for wait in await questions(context, run)],
        "createdAt": run.created_at,
        "finishedAt": run.finished_at,
    }


async def questions(context: Context, run: Run) -> list[Wait]:
    """Return the open questions of a run that the caller may answer."""
    waits = [wait for wait in await context.loaders.waits.load(run.id) or () if wait.kind is WaitKind.INPUT]
    answerable = await context.loaders.may_answer.load_many([wait.id for wait in waits])
    return [wait for wait, may_answer in zip(waits, answerable, strict=True) if may_answer]


def _question(wait: Wait) -> dict[str, Any]:
    return {
        "waitId": wait.id,
        "nodeId": wait.node_id,
        "prompt": wait.prompt,
        "schema": wait.schema,
        "expiresAt": wait.until,
    }
