"""Run control: cancel, pause, resume, rewind, answer, step and breakpoints.

Each is one transaction with a guarded update. If the status of the run does not allow the call, it
raises InvalidState and changes nothing.
"""

from asyncio import gather, timeout, to_thread
from contextlib import suppress
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.problems import FieldProblem
from engine.states import RunStatus
from engine.types import JSON
from engine.values.json_schema import check_inputs
from persistence.audit_log import record
from persistence.checkpoints.rewind import rewind
from persistence.events import history
from persistence.events.history import Checkpoint
from persistence.problems import invalid
from persistence.runs import commands, node_states, waits
from persistence.runs import run as runs
from persistence.runs.run import CommandResult, Run
from persistence.runs.transition import lock_run
from persistence.workflows import workflows
from resolvers.checks import check_nodes, check_wait
from resolvers.context import Context
from resolvers.idempotent import audited, publish_transitions, run_idempotent, shielded
from resolvers.runs.start import own_run, wait_until_idle

MAX_REASON = 1000
STOP_MS = 12_000
"""How long to wait for cancelled runs to stop: a little more than their default deadline, 10 s."""


async def cancel_run(context: Context, run_id: str, reason: str | None, idempotency_key: str | None) -> Run:
    """Cancel a run: CANCELLED if no worker executes it, else CANCELLING and its worker is notified.

    Raises:
        InvalidState: The run is finished.
    """
    if reason is not None and len(reason) > MAX_REASON:
        raise invalid("input.reason", "LENGTH", f"must have at most {MAX_REASON} characters")
    run = await own_run(context, "cancelRun", run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await commands.cancel(connection, context.caller, run_id, reason, context.database.deadlines)

    noted = audited(context, "cancelRun", act, reason=reason)
    return await run_idempotent(
        context, run.project_id, idempotency_key, "cancelRun", [run_id, reason], noted, run_id=run_id
    )


async def stop_runs(context: Context, workflow_id: str, reason: str) -> None:
    """Cancel the active runs of a workflow, and wait until their code has stopped, at most STOP_MS.

    Runs that are accepted in the meantime are cancelled as well. Only runs that a worker executes
    need to stop.
    """
    stopping = await _cancel_active(context, workflow_id, reason)
    with suppress(TimeoutError):
        async with timeout(STOP_MS / 1000):
            while stopping:
                await gather(*(wait_until_idle(context, run, STOP_MS) for run in stopping))
                stopping = await _cancel_active(context, workflow_id, reason)


async def _cancel_active(context: Context, workflow_id: str, reason: str) -> list[Run]:
    """Cancel the active runs of a workflow, and return those whose code has not stopped yet."""
    while await shielded(_cancel_batch(context, workflow_id, reason)) >= commands.BATCH:
        pass
    async with context.read() as connection:
        active = await workflows.active_run_ids(connection, context.caller, workflow_id)
        by_id = await runs.get_many(connection, context.caller, active)
    return [run for run in by_id.values() if run.status is RunStatus.CANCELLING]


async def _cancel_batch(context: Context, workflow_id: str, reason: str) -> int:
    """Cancel at most BATCH active runs, publish that, and return their number."""
    async with context.database.begin() as connection:
        transitions = await commands.cancel_all(
            connection, context.caller, workflow_id, reason, context.database.deadlines
        )
    await publish_transitions(context, transitions)
    return len(transitions)


async def pause_run(
    context: Context, run_id: str, timeout_ms: int, idempotency_key: str | None
) -> tuple[Run, Checkpoint | None]:
    """Pause a run, and wait until it is idle, at most `timeout_ms`.

    Returns:
        The run, and the checkpoint that it will continue from. The checkpoint is None unless the
        run is PAUSED.
    """
    check_wait(timeout_ms)
    run = await own_run(context, "pauseRun", run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await commands.pause(connection, context.caller, run_id, context.database.deadlines)

    noted = audited(context, "pauseRun", act)
    run = await run_idempotent(context, run.project_id, idempotency_key, "pauseRun", [run_id], noted, run_id=run_id)
    return await _idle_with_head(context, run, timeout_ms)


async def step_run(
    context: Context, run_id: str, timeout_ms: int, idempotency_key: str | None
) -> tuple[Run, Checkpoint | None]:
    """Run one step of a PAUSED run, and wait until it is idle, at most `timeout_ms`.

    Returns the same as `pause_run`.
    """
    check_wait(timeout_ms)
    run = await own_run(context, "stepRun", run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await commands.resume(connection, context.caller, run_id, step=True)

    noted = audited(context, "stepRun", act)
    run = await run_idempotent(context, run.project_id, idempotency_key, "stepRun", [run_id], noted, run_id=run_id)
    return await _idle_with_head(context, run, timeout_ms)


async def resume_run(context: Context, run_id: str, checkpoint_id: str | None, idempotency_key: str | None) -> Run:
    """Continue a PAUSED run from its last checkpoint, or rewound to `checkpoint_id`."""
    run = await own_run(context, "resumeRun", run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        if checkpoint_id is not None:
            return await rewind(connection, context.caller, run_id, checkpoint_id)
        return await commands.resume(connection, context.caller, run_id)

    noted = audited(context, "resumeRun", act, checkpointId=checkpoint_id)
    return await run_idempotent(
        context, run.project_id, idempotency_key, "resumeRun", [run_id, checkpoint_id], noted, run_id=run_id
    )


async def answer_run(context: Context, run_id: str, wait_id: str, answer: JSON, idempotency_key: str | None) -> Run:
    """Answer a question of a run in any active status. A WAITING run continues.

    Raises:
        Invalid: The answer does not match the JSON Schema of the question.
        NotFound: The run has no such question.
        Conflict: The question has been answered.
    """
    run = await own_run(context, "resumeRun", run_id)
    problems = await _answer_problems(context, run_id, wait_id, answer)

    async def act(connection: AsyncConnection) -> CommandResult:
        return await waits.answer(connection, context.caller, run_id, wait_id, answer, problems)

    noted = audited(context, "resumeRun", act, waitId=wait_id)
    return await run_idempotent(
        context, run.project_id, idempotency_key, "answerRun", [run_id, wait_id, answer], noted, run_id=run_id
    )


async def _answer_problems(context: Context, run_id: str, wait_id: str, answer: JSON) -> list[FieldProblem]:
    """Check the answer against the schema of the question, before the run is locked.

    It runs in a thread, because a schema may take long to check.
    """
    async with context.read() as connection:
        schema = await waits.schema_of(connection, context.caller, run_id, wait_id)
    problems = await to_thread(check_inputs, answer, schema)
    return [replace(problem, field=problem.field.replace("inputs", "input.answer", 1)) for problem in problems]


async def set_breakpoints(context: Context, run_id: str, node_ids: list[str], idempotency_key: str | None) -> Run:
    """Replace the breakpoints of a run: it pauses before these nodes.

    Raises Invalid for unknown nodes.
    """
    run = await own_run(context, "setBreakpoints", run_id)

    async def act(connection: AsyncConnection) -> CommandResult:
        names = (await node_states.names(connection, context.caller, [run_id]))[run_id]
        check_nodes("input.nodeIds", node_ids, {name.id for name in names})
        before = await lock_run(connection, context.caller, run_id)
        run = await commands.set_breakpoints(connection, context.caller, run_id, sorted(set(node_ids)))
        await record(
            connection,
            context.caller,
            "setBreakpoints",
            run.project_id,
            run_id,
            before={"breakpoints": before.options.breakpoints},
            after={"breakpoints": run.options.breakpoints},
        )
        return CommandResult(run)

    return await run_idempotent(
        context, run.project_id, idempotency_key, "setBreakpoints", [run_id, node_ids], act, run_id=run_id
    )


async def _idle_with_head(context: Context, run: Run, timeout_ms: int) -> tuple[Run, Checkpoint | None]:
    run = await wait_until_idle(context, run, timeout_ms)
    if run.status is not RunStatus.PAUSED:
        return run, None
    async with context.read() as connection:
        return run, await history.head(connection, context.caller, run.id)
