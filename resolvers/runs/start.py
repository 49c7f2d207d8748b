"""Start runs: create, execute, run a workflow or an ad hoc spec; and wait until a run is idle.

A run is accepted in one transaction, so a crash leaves a complete run or none.
"""

from asyncio import timeout
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation import suspension
from engine.problems import FieldProblem
from engine.states import RunMode, RunStatus, WaitKind
from engine.types import JSON
from persistence.feed.rest_waiter import POLL_S
from persistence.problems import Invalid, Problem
from persistence.runs import admission, commands, create, waits
from persistence.runs import run as runs
from persistence.runs.create import NewRun
from persistence.runs.run import CommandResult, Run, RunOptions
from persistence.workflows import versions
from persistence.workflows.versions import Version
from resolvers.authorise import project_for, require
from resolvers.checks import check_options, check_wait, complete_run_inputs
from resolvers.context import Context
from resolvers.idempotent import (
    audited,
    idempotency_arguments,
    known_run,
    publish_transitions,
    run_idempotent,
    shielded,
)
from resolvers.permissions import MUTATIONS
from resolvers.secrets import check_use
from resolvers.workflows.specs import check_runnable, content_to_save
from resolvers.workflows.version_cache import checked_versions


@dataclass(frozen=True, slots=True)
class StartArguments:
    """The workflow or spec to run, and how.

    With `workflow_id` None, `spec` is run ad hoc. `timeout_ms` applies to mode SYNC only. `is_exposed`: the
    version is that of the name of the workflow, so that a repeat may find another one, and may wait or not.
    """

    workflow_id: str | None = None
    version_id: str | None = None
    draft_revision: int | None = None
    project_id: str | None = None
    spec: JSON = None
    inputs: JSON = field(default_factory=dict)
    mode: RunMode = RunMode.ASYNC
    timeout_ms: int = 30_000
    options: RunOptions = field(default_factory=RunOptions)
    idempotency_key: str | None = None
    is_exposed: bool = False


async def create_run(context: Context, arguments: StartArguments) -> Run:
    """Create a PENDING run of a workflow."""
    return await _begin(context, arguments, "createRun", start=False)


async def run_workflow(context: Context, arguments: StartArguments) -> Run:
    """Start a run of a workflow. In mode SYNC, wait until it is idle, at most `timeout_ms`."""
    check_wait(arguments.timeout_ms)
    run = await _begin(context, arguments, "runWorkflow", start=True)
    return await wait_until_idle(context, run, arguments.timeout_ms) if arguments.mode is RunMode.SYNC else run


async def run_adhoc(context: Context, arguments: StartArguments) -> Run:
    """Start a run of a spec that belongs to no workflow. Mode SYNC as in `run_workflow`."""
    check_wait(arguments.timeout_ms)
    async with context.read() as connection:
        project_id = await project_for(connection, context.caller, MUTATIONS["runAdhoc"], arguments.project_id)
    content = content_to_save(context, arguments.spec)
    await check_runnable(context, content.spec)
    check_use(context, project_id, content.spec)

    async def act(connection: AsyncConnection) -> CommandResult:
        await context.queue_limit.admit(context.database.pool, project_id)
        version = await versions.ensure_adhoc(connection, context.caller, project_id, content)
        new = _new(arguments, version, start=True)
        return await admission.accept(connection, context.caller, new, context.database.deadlines)

    run = await run_idempotent(context, project_id, arguments.idempotency_key, "runAdhoc", _repeatable(arguments), act)
    return await wait_until_idle(context, run, arguments.timeout_ms) if arguments.mode is RunMode.SYNC else run


async def execute_run(
    context: Context, run_id: str, inputs: JSON, *, replace_inputs: bool, idempotency_key: str | None
) -> Run:
    """Start a PENDING run.

    With `replace_inputs`, `inputs` replace those that it was created with.
    """
    run = await own_run(context, "executeRun", run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        version = checked_versions.get(run.version_id) or await versions.get(connection, context.caller, run.version_id)
        completed = complete_run_inputs(inputs, version) if replace_inputs else inputs
        await context.queue_limit.admit(context.database.pool, run.project_id)
        new = replace(admission.new_run(version, completed), options=run.options)
        deadlines = context.database.deadlines
        cancelled = await admission.admit(connection, context.caller, new, deadlines)
        executed = await commands.execute(connection, context.caller, run_id, completed, replace=replace_inputs)
        return replace(executed, transitions=(*cancelled, *executed.transitions))

    arguments = [run_id, inputs, replace_inputs]
    noted = audited(context, "executeRun", act)
    return await run_idempotent(context, run.project_id, idempotency_key, "executeRun", arguments, noted, run_id=run_id)


async def wait_until_idle(context: Context, run: Run, timeout_ms: int) -> Run:
    """Wait until a run is terminal, PAUSED or WAITING, and return it.

    After `timeout_ms` the run is returned in its current state.
    """
    if run.status.is_idle and await _is_idle(context, run):
        return run
    interval_s, max_interval_s = POLL_S
    with suppress(TimeoutError):
        async with timeout(timeout_ms / 1000):
            while True:
                await context.feed.rest_waiter.wait(run.id, interval_s)
                run = await runs.read(context.database.pool, context.caller, run.id) or run
                if await _is_idle(context, run):
                    return run
                interval_s = min(interval_s * 1.5, max_interval_s)
    return await runs.read(context.database.pool, context.caller, run.id) or run


async def _is_idle(context: Context, run: Run) -> bool:
    """Return whether the run needs an action from outside.

    A run that waits only for timers, retries and child runs does not: it continues by itself.
    """
    if run.status is not RunStatus.WAITING:
        return run.status.is_idle
    async with context.read() as connection:
        open_waits = (await waits.of_runs(connection, context.caller, [run.id]))[run.id]
    return any(wait.kind is WaitKind.INPUT for wait in open_waits)


async def _begin(context: Context, arguments: StartArguments, operation: str, *, start: bool) -> Run:
    if arguments.version_id is not None and arguments.draft_revision is not None:
        message = "versionId and draftRevision exclude each other: send one of them"
        raise Invalid([FieldProblem(f"input.{name}", "EXCLUSIVE", message) for name in ("versionId", "draftRevision")])
    workflow_id = arguments.workflow_id or ""
    guess = await _guess(context, arguments, operation, start=start)
    # The path of nearly every run, which takes one statement.
    if guess is not None and (run := await shielded(_accept_guessed(context, guess))) is not None:
        return run
    project_id, current = await versions.current_version_id(context.database.pool, context.caller, workflow_id)
    require(context.caller, MUTATIONS[operation], project_id)
    if current is not None:
        checked_versions.set_default(workflow_id, current)
    version_id = current if arguments.version_id is None else arguments.version_id
    cached = checked_versions.get(version_id) if version_id is not None and arguments.draft_revision is None else None
    if cached is not None and cached.workflow_id == workflow_id and arguments.idempotency_key is None:
        new = await suspension.call(_new, arguments, cached, start=start)
        if new.is_queued_at_limit:
            # Its version is cached, so that accepting it takes one statement.
            return await shielded(_accept_alone(context, new))

    async def act(connection: AsyncConnection) -> CommandResult:
        version = await versions.get_for_run(
            connection, context.caller, workflow_id, arguments.version_id, arguments.draft_revision
        )
        if checked_versions.get(version.id) is None:
            await check_runnable(context, version.spec)
            checked_versions.add(version)
        new = _new(arguments, version, start=start)
        await _admit(context, new)
        return await admission.accept(connection, context.caller, new, context.database.deadlines)

    return await run_idempotent(context, project_id, arguments.idempotency_key, operation, _repeatable(arguments), act)


async def _guess(context: Context, arguments: StartArguments, operation: str, *, start: bool) -> NewRun | None:
    """Return a run of the version that the last run of the workflow has executed, if that is likely.

    None: the database has to be read first. It also is where an error has to be found.
    """
    if (
        arguments.version_id is not None
        or arguments.draft_revision is not None
        or arguments.idempotency_key is not None
    ):
        return None
    version, role = checked_versions.last_default(arguments.workflow_id or ""), MUTATIONS[operation]
    if version is None or not context.caller.may(role, version.project_id):
        return None
    try:
        new = await suspension.call(_new, arguments, version, start=start)
    except Problem:
        return None
    return new if new.is_queued_at_limit else None


async def _accept_guessed(context: Context, new: NewRun) -> Run | None:
    """Accept a run if its version is still the default one of its workflow."""
    await _admit(context, new)
    result = await create.accept_if_current(context.database.pool, context.caller, new)
    if result is None:
        return None
    await publish_transitions(context, result.transitions)
    return result.run


async def _admit(context: Context, new: NewRun) -> None:
    """Count a run for the limit of its project. Raises TooManyQueuedRuns."""
    status = RunStatus.QUEUED if new.start else RunStatus.PENDING
    await context.queue_limit.admit(context.database.pool, new.project_id, status)


async def _accept_alone(context: Context, new: NewRun) -> Run:
    await _admit(context, new)
    result = await create.accept_directly(context.database.pool, context.caller, new)
    await publish_transitions(context, result.transitions)
    return result.run


def _new(arguments: StartArguments, version: Version, *, start: bool) -> NewRun:
    """Return the run to accept.

    Raises Invalid for options or inputs that do not match the version.
    """
    check_options(arguments.options, version.spec)
    inputs = complete_run_inputs(arguments.inputs, version)
    return replace(admission.new_run(version, inputs), start=start, mode=arguments.mode, options=arguments.options)


async def own_run(context: Context, operation: str, run_id: str) -> Run:
    """Return a run for which the caller may use a mutation. Raises NotFound, Forbidden."""
    async with context.read() as connection:
        run = await known_run(connection, context, run_id)
    require(context.caller, MUTATIONS[operation], run.project_id)
    return run


def _repeatable(arguments: StartArguments) -> JSON:
    """Return the arguments that a repeat with the same key must have. The timeout may differ."""
    varying = ("version_id", "mode") if arguments.is_exposed else ()
    return idempotency_arguments(arguments, "idempotency_key", "timeout_ms", "is_exposed", *varying)
