"""Run control: cancel, pause, resume, rewind, answer, step and breakpoints. Each is one transaction that says if it won."""

from asyncio import gather, timeout, to_thread
from contextlib import suppress
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.problems import FieldProblem
from engine.states import RunStatus
from engine.types import JSON
from engine.values.json_schema import check_inputs
from persistence.events import history
from persistence.events.history import Checkpoint
from persistence.problems import invalid
from persistence.runs import commands, node_states, waits
from persistence.runs import run as runs
from persistence.runs.rewind import rewind
from persistence.runs.run import CommandResult, Run
from persistence.workflows import workflows
from resolvers.checks import check_nodes, check_wait
from resolvers.context import Context
from resolvers.idempotent import publish_transitions, run_idempotent, shielded
from resolvers.runs.start import at_rest, own_run

MAX_REASON = 1000
STOP_MS = 12_000
"""How long cancelled runs are waited for: a little over their own deadline."""


async def cancel_run(context: Context, run_id: str, reason: str | None, idempotency_key: str | None) -> Run:
    """CANCELLED if no worker held it, else CANCELLING: the worker is told at once."""
    if reason is not None and len(reason) > MAX_REASON:
        raise invalid("input.reason", "LENGTH", f"must have at most {MAX_REASON} characters")
    run = await own_run(context, run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await commands.cancel(connection, context.caller, run_id, reason, context.database.deadlines)

    return await run_idempotent(
        context, run.project_id, idempotency_key, "cancelRun", [run_id, reason], act, run_id=run_id
    )


async def stop_runs(context: Context, workflow_id: str, reason: str) -> None:
    """Cancels the active runs of a workflow, all at once, and waits until their code has stopped or STOP_MS have passed.

    What is accepted meanwhile is cancelled as well, if a worker has begun with it; nobody waits for what has not begun.
    """
    stopping = await _stopping(context, workflow_id, reason)
    with suppress(TimeoutError):
        async with timeout(STOP_MS / 1000):
            while stopping:
                await gather(*(at_rest(context, run, STOP_MS) for run in stopping))
                stopping = await _stopping(context, workflow_id, reason)


async def _stopping(context: Context, workflow_id: str, reason: str) -> list[Run]:
    """Cancels all that is active; the runs whose code has yet to stop."""
    while await shielded(_cancel_some(context, workflow_id, reason)) >= commands.BATCH:
        pass
    async with context.database.connect() as connection:
        active = await workflows.active_run_ids(connection, context.caller, workflow_id)
        found = await runs.get_many(connection, context.caller, active)
    return [run for run in found.values() if run.status is RunStatus.CANCELLING]


async def _cancel_some(context: Context, workflow_id: str, reason: str) -> int:
    """One batch, and those are told who have to know. Answers with how many it cancelled."""
    async with context.database.begin() as connection:
        transitions = await commands.cancel_all(
            connection, context.caller, workflow_id, reason, context.database.deadlines
        )
    await publish_transitions(context, transitions)
    return len(transitions)


async def pause_run(
    context: Context, run_id: str, timeout_ms: int, idempotency_key: str | None
) -> tuple[Run, Checkpoint | None]:
    """The run once it rests, with the checkpoint that it goes on from; PAUSING where that takes longer."""
    check_wait(timeout_ms)
    run = await own_run(context, run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await commands.pause(connection, context.caller, run_id, context.database.deadlines)

    run = await run_idempotent(context, run.project_id, idempotency_key, "pauseRun", [run_id], act, run_id=run_id)
    return await _rested(context, run, timeout_ms)


async def step_run(
    context: Context, run_id: str, timeout_ms: int, idempotency_key: str | None
) -> tuple[Run, Checkpoint | None]:
    """One step of a PAUSED run; the run once it is paused again, or as it stands when the time is over."""
    check_wait(timeout_ms)
    run = await own_run(context, run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await commands.resume(connection, context.caller, run_id, step=True)

    run = await run_idempotent(context, run.project_id, idempotency_key, "stepRun", [run_id], act, run_id=run_id)
    return await _rested(context, run, timeout_ms)


async def resume_run(context: Context, run_id: str, checkpoint_id: str | None, idempotency_key: str | None) -> Run:
    """A PAUSED run goes on: from its last checkpoint, or rewound to an earlier one."""
    run = await own_run(context, run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        if checkpoint_id is not None:
            return await rewind(connection, context.caller, run_id, checkpoint_id)
        return await commands.resume(connection, context.caller, run_id)

    return await run_idempotent(
        context, run.project_id, idempotency_key, "resumeRun", [run_id, checkpoint_id], act, run_id=run_id
    )


async def answer_run(context: Context, run_id: str, wait_id: str, given: JSON, idempotency_key: str | None) -> Run:
    """Answers one question of a run, whichever active status it has; a WAITING one goes on."""
    run = await own_run(context, run_id)
    problems = await _misfits(context, run_id, wait_id, given)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await waits.answer(connection, context.caller, run_id, wait_id, given, problems)

    return await run_idempotent(
        context, run.project_id, idempotency_key, "answerRun", [run_id, wait_id, given], act, run_id=run_id
    )


async def _misfits(context: Context, run_id: str, wait_id: str, given: JSON) -> list[FieldProblem]:
    """What does not fit the question's schema. Before the run is locked, and in a thread: a schema may take its time."""
    async with context.database.connect() as connection:
        schema = await waits.schema_of(connection, context.caller, run_id, wait_id)
    problems = await to_thread(check_inputs, given, schema)
    return [replace(one, field=one.field.replace("inputs", "input.answer", 1)) for one in problems]


async def set_breakpoints(context: Context, run_id: str, node_ids: list[str], idempotency_key: str | None) -> Run:
    """Pause before these nodes from now on."""
    run = await own_run(context, run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        named = (await node_states.names(connection, context.caller, [run_id]))[run_id]
        check_nodes("input.nodeIds", node_ids, {node.id for node in named})
        run = await commands.set_breakpoints(connection, context.caller, run_id, sorted(set(node_ids)))
        return CommandResult(run)

    return await run_idempotent(
        context, run.project_id, idempotency_key, "setBreakpoints", [run_id, node_ids], act, run_id=run_id
    )


async def _rested(context: Context, run: Run, timeout_ms: int) -> tuple[Run, Checkpoint | None]:
    run = await at_rest(context, run, timeout_ms)
    if run.status is not RunStatus.PAUSED:
        return run, None
    async with context.database.connect() as connection:
        return run, await history.head(connection, context.caller, run.id)
