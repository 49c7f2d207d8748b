"""Starts runs: created, executed, run at once or ad hoc; and waits for one to rest, where the client asked for that."""

from asyncio import timeout
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import OnLimit, RunMode, RunStatus, WaitKind
from engine.types import JSON
from persistence.caller import Role
from persistence.feed.rest_waiter import POLL_S
from persistence.runs import admission, commands, create, waits
from persistence.runs import run as runs
from persistence.runs.create import NewRun
from persistence.runs.run import CommandResult, Run, RunOptions
from persistence.workflows import versions
from persistence.workflows.versions import Version
from resolvers.authorise import project_for, require
from resolvers.checks import check_options, check_run_inputs, check_wait
from resolvers.context import Context
from resolvers.idempotent import known_run, publish_transitions, run_idempotent, shielded
from resolvers.secrets import check_use
from resolvers.workflows.specs import check_runnable, content_to_save
from resolvers.workflows.version_cache import runnable


@dataclass(frozen=True, slots=True)
class StartArguments:
    """What is to be run, and how. `workflow_id` None with a `spec`: ad hoc."""

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


async def create_run(context: Context, ask: StartArguments) -> Run:
    """PENDING, of a workflow."""
    return await _begin(context, ask, "createRun", start=False)


async def run_workflow(context: Context, ask: StartArguments) -> Run:
    """Answers at once, or in mode SYNC when the run rests or the timeout passed."""
    check_wait(ask.timeout_ms)
    run = await _begin(context, ask, "runWorkflow", start=True)
    return await at_rest(context, run, ask.timeout_ms) if ask.mode is RunMode.SYNC else run


async def run_adhoc(context: Context, ask: StartArguments) -> Run:
    check_wait(ask.timeout_ms)
    async with context.database.connect() as connection:
        project_id = await project_for(connection, context.caller, Role.RUNNER, ask.project_id)
    content = content_to_save(ask.spec)
    check_runnable(context, content.spec)
    check_use(context, project_id, content.spec)

    async def act(connection: AsyncConnection) -> CommandResult:
        version = await versions.ensure_adhoc(connection, context.caller, project_id, content)
        new = _new(ask, version, start=True)
        return await admission.accept(connection, context.caller, new, context.database.deadlines)

    run = await run_idempotent(context, project_id, ask.idempotency_key, "runAdhoc", _arguments(ask), act)
    return await at_rest(context, run, ask.timeout_ms) if ask.mode is RunMode.SYNC else run


async def execute_run(
    context: Context, run_id: str, inputs: JSON, *, replace_inputs: bool, idempotency_key: str | None
) -> Run:
    """Starts a PENDING run, with other inputs than it was created with if `replace_inputs`."""
    run = await own_run(context, run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        version = runnable.get(run.version_id) or await versions.get(connection, context.caller, run.version_id)
        if replace_inputs:
            check_run_inputs(inputs, version)
        new, deadlines = admission.new_run(version, inputs), context.database.deadlines
        made_way = await admission.admit(connection, context.caller, new, deadlines)
        executed = await commands.execute(connection, context.caller, run_id, inputs, replace=replace_inputs)
        return replace(executed, transitions=(*made_way, *executed.transitions))

    arguments = [run_id, inputs, replace_inputs]
    return await run_idempotent(context, run.project_id, idempotency_key, "executeRun", arguments, act, run_id=run_id)


async def at_rest(context: Context, run: Run, timeout_ms: int) -> Run:
    """The run once it is terminal, PAUSED or WAITING, or as it stands when the time is over."""
    if run.status.is_idle and await _is_at_rest(context, run):
        return run
    pause, most = POLL_S
    with suppress(TimeoutError):
        async with timeout(timeout_ms / 1000):
            while True:
                await context.feed.rest_waiter.wait(run.id, pause)
                run = await runs.read(context.database.pool, context.caller, run.id) or run
                if await _is_at_rest(context, run):
                    return run
                pause = min(pause * 1.5, most)
    return await runs.read(context.database.pool, context.caller, run.id) or run


async def _is_at_rest(context: Context, run: Run) -> bool:
    """A run that waits for its own child runs alone goes on by itself."""
    if run.status is not RunStatus.WAITING:
        return run.status.is_idle
    async with context.database.connect() as connection:
        open_waits = (await waits.of_runs(connection, context.caller, [run.id]))[run.id]
    return any(wait.kind is not WaitKind.RUN for wait in open_waits)


async def _begin(context: Context, ask: StartArguments, operation: str, *, start: bool) -> Run:
    workflow_id = ask.workflow_id or ""
    project_id, current = await versions.current_version_id(context.database.pool, context.caller, workflow_id)
    require(context.caller, Role.RUNNER, project_id)
    named = current if ask.version_id is None else ask.version_id
    known = runnable.get(named) if named is not None and ask.draft_revision is None else None
    if known is not None and known.workflow_id == workflow_id and ask.idempotency_key is None:
        new = _new(ask, known, start=start)
        if new.on_limit is OnLimit.QUEUE:
            # The way of nearly every run: its version is known, and the run is one statement.
            return await shielded(_accept_alone(context, new))

    async def act(connection: AsyncConnection) -> CommandResult:
        version = await versions.get_for_run(
            connection, context.caller, workflow_id, ask.version_id, ask.draft_revision
        )
        if runnable.get(version.id) is None:
            check_runnable(context, version.spec)
            runnable.remember(version)
        new = _new(ask, version, start=start)
        return await admission.accept(connection, context.caller, new, context.database.deadlines)

    return await run_idempotent(context, project_id, ask.idempotency_key, operation, _arguments(ask), act)


async def _accept_alone(context: Context, new: NewRun) -> Run:
    result = await create.accept_directly(context.database.pool, context.caller, new)
    await publish_transitions(context, result.transitions)
    return result.run


def _new(ask: StartArguments, version: Version, *, start: bool) -> NewRun:
    """Raises Invalid for options or inputs that do not fit the version."""
    check_options(ask.options, version.spec)
    check_run_inputs(ask.inputs, version)
    return replace(admission.new_run(version, ask.inputs), start=start, mode=ask.mode, options=ask.options)


async def own_run(context: Context, run_id: str) -> Run:
    async with context.database.connect() as connection:
        run = await known_run(connection, context, run_id)
    require(context.caller, Role.RUNNER, run.project_id)
    return run


def _arguments(ask: StartArguments) -> JSON:
    """What a repeat with the same key has to say again: not how long it waits for an answer."""
    arguments = asdict(ask)
    del arguments["idempotency_key"], arguments["timeout_ms"]
    return arguments
