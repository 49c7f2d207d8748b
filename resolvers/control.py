"""Run control: create, start, run and cancel. Each call is one transaction, after which Redis and the queue are told.

A crash between the commit and the telling delays the run, and loses nothing: recovery rings, readers ask Postgres.
"""

from asyncio import timeout
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import JSON, Event, StatusChange
from engine.inputs import check_inputs
from engine.states import RunMode, RunStatus
from persistence import idempotency, moves, runs, versions, workflows
from persistence.caller import Role
from persistence.problems import Invalid, NotFound, invalid
from persistence.runs import Changed, NewRun, Run, RunOptions
from persistence.versions import Version
from resolvers.authorise import project_for, require
from resolvers.context import Context
from resolvers.names import checked_text
from resolvers.spec import check_runnable, content_to_save

MAX_WAIT_MS = 600_000
MAX_REASON = 1000
MAX_KNOWN = 10_000
Act = Callable[[AsyncConnection], Awaitable[Changed | Run]]


@dataclass(frozen=True, slots=True)
class Start:
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


_known_runnable: dict[str, None] = {}
"""Versions found fit to run: neither they nor this process's node types change, so each is validated once."""


def _remember_runnable(version_id: str) -> None:
    _known_runnable[version_id] = None
    if len(_known_runnable) > MAX_KNOWN:
        del _known_runnable[next(iter(_known_runnable))]


async def create_run(context: Context, ask: Start) -> Run:
    """PENDING, of a workflow."""
    return await _begin(context, ask, "createRun", start=False)


async def run_workflow(context: Context, ask: Start) -> Run:
    """Answers at once, or in mode SYNC when the run rests or the timeout passed."""
    _check_wait(ask.timeout_ms)
    run = await _begin(context, ask, "runWorkflow", start=True)
    return await at_rest(context, run, ask.timeout_ms) if ask.mode is RunMode.SYNC else run


async def run_adhoc(context: Context, ask: Start) -> Run:
    _check_wait(ask.timeout_ms)
    async with context.database.connect() as connection:
        project_id = await project_for(connection, context.caller, Role.RUNNER, ask.project_id)
    content = content_to_save(ask.spec)
    check_runnable(context, content.spec)

    async def act(connection: AsyncConnection) -> Changed:
        version = await versions.adhoc(connection, context.caller, project_id, content)
        return await _accept(connection, context, ask, version, start=True)

    run = await _once(context, project_id, ask.idempotency_key, "runAdhoc", _arguments(ask), act)
    return await at_rest(context, run, ask.timeout_ms) if ask.mode is RunMode.SYNC else run


async def execute_run(
    context: Context, run_id: str, inputs: JSON, *, replace_inputs: bool, idempotency_key: str | None
) -> Run:
    """Starts a PENDING run, with other inputs than it was created with if `replace_inputs`."""
    run = await _own_run(context, run_id)

    async def act(connection: AsyncConnection) -> Changed:
        if replace_inputs:
            version = await versions.get(connection, context.caller, run.version_id)
            _check_inputs(inputs, version)
        return await moves.execute(connection, context.caller, run_id, inputs, replace=replace_inputs)

    arguments = [run_id, inputs, replace_inputs]
    return await _once(context, run.project_id, idempotency_key, "executeRun", arguments, act)


async def cancel_run(context: Context, run_id: str, reason: str | None, idempotency_key: str | None) -> Run:
    """CANCELLED if no worker held it, else CANCELLING: the worker is told at once."""
    if reason is not None and len(checked_text("input.reason", reason)) > MAX_REASON:
        raise invalid("input.reason", "LENGTH", f"must have at most {MAX_REASON} characters")
    run = await _own_run(context, run_id)

    async def act(connection: AsyncConnection) -> Changed | Run:
        return await moves.cancel(connection, context.caller, run_id, reason)

    return await _once(context, run.project_id, idempotency_key, "cancelRun", [run_id, reason], act)


async def at_rest(context: Context, run: Run, timeout_ms: int) -> Run:
    """The run once it is terminal, PAUSED or WAITING, or as it stands when the time is over."""
    if run.status.is_resting:
        return run
    with suppress(TimeoutError):
        async with timeout(timeout_ms / 1000), aclosing(context.feed.follow(run.id, run.last_seq)) as events:
            async for event in events:
                if isinstance(event, Event) and isinstance(event.what, StatusChange) and event.what.status.is_resting:
                    break
    async with context.database.connect() as connection:
        return await runs.get(connection, context.caller, run.id) or run


async def _begin(context: Context, ask: Start, operation: str, *, start: bool) -> Run:
    workflow_id = ask.workflow_id or ""
    async with context.database.connect() as connection:
        workflow = await workflows.get(connection, context.caller, workflow_id)
    require(context.caller, Role.RUNNER, workflow.project_id)

    async def act(connection: AsyncConnection) -> Changed:
        version = await versions.for_run(connection, context.caller, workflow_id, ask.version_id, ask.draft_revision)
        if version.id not in _known_runnable:
            check_runnable(context, version.spec)
            _remember_runnable(version.id)
        return await _accept(connection, context, ask, version, start=start)

    return await _once(context, workflow.project_id, ask.idempotency_key, operation, _arguments(ask), act)


async def _accept(
    connection: AsyncConnection, context: Context, ask: Start, version: Version, *, start: bool
) -> Changed:
    if ask.options.timeout_s is not None and ask.options.timeout_s <= 0:
        raise invalid("input.options.timeoutS", "OUT_OF_RANGE", "must be more than 0")
    _check_inputs(ask.inputs, version)
    new = NewRun(
        version.project_id,
        version.workflow_id,
        version.id,
        ask.inputs,
        start=start,
        mode=ask.mode,
        options=ask.options,
    )
    return await runs.accept(connection, context.caller, new)


async def _once(context: Context, project_id: str, key: str | None, operation: str, arguments: JSON, act: Act) -> Run:
    """Does `act` in one transaction, or answers with the run of the key's first call."""
    if key is not None and not 1 <= len(checked_text("input.idempotencyKey", key)) <= idempotency.MAX_KEY_LENGTH:
        raise invalid("input.idempotencyKey", "LENGTH", f"must have 1 to {idempotency.MAX_KEY_LENGTH} characters")
    hashed = idempotency.arguments_hash(operation, arguments) if key is not None else ""
    while True:
        try:
            async with context.database.begin() as connection:
                if key is not None and (known := await idempotency.find(connection, project_id, key, hashed)):
                    return await _known(connection, context, known)
                done = await act(connection)
                run = done.run if isinstance(done, Changed) else done
                if key is not None:
                    await idempotency.claim(connection, project_id, key, hashed, run.id)
        except idempotency.KeyTaken:
            continue  # its holder has committed by now: found at the next look
        if isinstance(done, Changed):
            await _tell(context, done)
        return run


async def _known(connection: AsyncConnection, context: Context, run_id: str) -> Run:
    run = await runs.get(connection, context.caller, run_id)
    if run is None:
        raise NotFound(run_id)
    return run


async def _tell(context: Context, done: Changed) -> None:
    """After the commit."""
    await context.feed.tell(done)
    if done.run.status is RunStatus.QUEUED:
        await context.queue.ring(done.run.id, done.run.takeup)
    elif done.run.status is RunStatus.CANCELLING:
        await context.queue.nudge(done.run.id)


async def _own_run(context: Context, run_id: str) -> Run:
    async with context.database.connect() as connection:
        run = await _known(connection, context, run_id)
    require(context.caller, Role.RUNNER, run.project_id)
    return run


def _check_inputs(inputs: JSON, version: Version) -> None:
    if problems := check_inputs(inputs, version.spec.get("inputs")):
        raise Invalid(problems)


def _check_wait(timeout_ms: int) -> None:
    if not 0 <= timeout_ms <= MAX_WAIT_MS:
        raise invalid("input.timeoutMs", "OUT_OF_RANGE", f"must be from 0 to {MAX_WAIT_MS}")


def _arguments(ask: Start) -> JSON:
    arguments = asdict(ask)
    del arguments["idempotency_key"]
    return arguments
