"""Idempotent changes: a repeat with the same key returns the run, or the object, of the first call.

A change is one transaction, followed by messages to Redis. A client disconnect never separates
commit and publish. A crash between them delays the run but loses nothing: recovery finds the run,
and readers query Postgres.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.isolation.suspension import suspendable
from engine.states import LEASED
from engine.types import JSON
from persistence import mutation_keys
from persistence.audit_log import record
from persistence.db.ids import Prefix
from persistence.events.run_transition import RunTransition
from persistence.mutation_keys import FirstCall, KeyedCall
from persistence.problems import Busy, Conflict, NotFound, Problem, invalid
from persistence.runs import idempotency
from persistence.runs import run as runs
from persistence.runs.run import CommandResult, Run, RunOptions
from resolvers import global_ids
from resolvers.context import Context

T = TypeVar("T")
Act = Callable[[AsyncConnection], Awaitable[CommandResult]]
"""The change that a call makes, in the transaction of its connection."""
_tasks: set[asyncio.Task[Any]] = set()
"""References to shielded tasks, because the event loop holds only weak ones."""


async def shielded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine that runs to its end even if the caller is cancelled.

    So each commit is published, whether or not its client is still connected.
    """
    task = asyncio.create_task(coroutine)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return await asyncio.shield(task)


def idempotency_arguments(arguments: Any, *excluded: str) -> JSON:
    """Return the arguments of a mutation that a repeat with the same key must have.

    Their values are not copied, because the JSON in them may be large. Tags and thread are left out unless
    the caller gave some: a key of a release without them stays valid.
    """
    values = {item.name: getattr(arguments, item.name) for item in fields(arguments) if item.name not in excluded}
    options = values.get("options")
    if isinstance(options, RunOptions):
        plain = asdict(options)
        if options.tags is None:
            del plain["tags"]
        if options.thread is None:
            del plain["thread"]
        values["options"] = plain
    return values


async def finish_shielded(timeout_s: float) -> None:
    """Wait until all shielded coroutines have ended, at most `timeout_s`.

    A server calls it before it closes its stores.
    """
    if _tasks:
        await asyncio.wait(set(_tasks), timeout=timeout_s)


async def run_idempotent(
    context: Context,
    project_id: str,
    key: str | None,
    operation: str,
    arguments: JSON,
    act: Act,
    *,
    run_id: str | None = None,
) -> Run:
    """Execute a change once for each idempotency key, in one transaction, and publish it.

    A repeat with the same key returns the current state of the run of the first call.

    Args:
        context: The caller and the stores.
        project_id: The project whose idempotency keys apply.
        key: The idempotency key; None to execute `act` in any case.
        operation: The name of the mutation; a repeat must have the same.
        arguments: The arguments of the mutation; a repeat must have the same.
        act: The change.
        run_id: The run that `act` changes; None if it creates one. With a `run_id` the key is
            claimed before `act`, so that a simultaneous repeat waits for the first call instead of
            finding the run changed. A call that creates a run claims the key afterwards, and rolls
            back if another call has claimed it.

    Raises:
        Conflict: The key was used for another operation or other arguments.
        Invalid: The length of the key is out of range.
    """
    # The checks of `act` may run in a helper process, without blocking the event loop.
    change = _run_idempotent(context, project_id, key, operation, arguments, act, run_id)
    return await shielded(_suspendable(change))


def audited(context: Context, action: str, act: Act, **details: JSON) -> Act:
    """Return a change of a run that also writes an entry of the audit log, with its status and `details`."""

    async def change(connection: AsyncConnection) -> CommandResult:
        result = await act(connection)
        run = result.run
        previous = result.transitions[-1].previous if result.transitions else run.status
        before = None if previous is None else {"status": previous}
        after = {"status": run.status, **details}
        await record(connection, context.caller, action, run.project_id, run.id, before=before, after=after)
        return result

    return change


async def _suspendable(change: Coroutine[Any, Any, Run]) -> Run:
    return await suspendable(change)


async def _run_idempotent(
    context: Context, project_id: str, key: str | None, operation: str, arguments: JSON, act: Act, run_id: str | None
) -> Run:
    if key is None:
        async with context.database.begin() as connection:
            result = await act(connection)
        return await _publish(context, result)
    if not 1 <= len(key) <= idempotency.MAX_KEY_LENGTH:
        raise invalid("input.idempotencyKey", "LENGTH", f"must have 1 to {idempotency.MAX_KEY_LENGTH} characters")
    hashed = idempotency.arguments_hash(operation, arguments)
    while True:
        try:
            async with context.database.begin() as connection:
                if first_run_id := await idempotency.find(connection, project_id, key, hashed):
                    return await known_run(connection, context, first_run_id)
                if run_id is not None:
                    await idempotency.claim(connection, project_id, key, hashed, run_id)
                result = await act(connection)
                if run_id is None:
                    await idempotency.claim(connection, project_id, key, hashed, result.run.id)
        except mutation_keys.KeyTaken:
            continue  # The other call has committed, so the next attempt finds its run.
        except Busy:
            # The run that uses up the concurrency limit may be that of the first call with this
            # key.
            async with context.read() as connection:
                if first_run_id := await idempotency.find(connection, project_id, key, hashed):
                    return await known_run(connection, context, first_run_id)
            raise
        return await _publish(context, result)


async def known_run(connection: AsyncConnection, context: Context, run_id: str) -> Run:
    """Return the run. Raises NotFound if it does not exist or is hidden from the caller."""
    run = await runs.get(connection, context.caller, run_id)
    if run is None:
        raise NotFound(run_id)
    return run


async def _publish(context: Context, result: CommandResult) -> Run:
    if result.transitions:
        await publish_transitions(context, result.transitions)
    elif result.run.status in LEASED:
        # Another column of the row changed, or the same change was requested again: its worker
        # reads the row again.
        await context.notifier.notify_run(result.run.id)
    return result.run


async def publish_transitions(context: Context, transitions: Sequence[RunTransition]) -> None:
    """Publish committed transitions to readers, and notify the workers that have to act on them."""
    await context.feed.publish(transitions, context.notifier.notices(transitions))
    await context.notifier.enqueue_poll(transitions)


NOT_KEPT = (
    "A call with this idempotencyKey was made already, and its answer is not stored. Nothing was done again. "
    "Send another key to repeat it."
)


async def call_once(
    context: Context,
    key: str,
    operation: str,
    arguments: Any,
    act: Callable[[], Awaitable[T]],
    repeat: Callable[[FirstCall], Awaitable[T]],
) -> T:
    """Execute `act`, or, if a call with the key has changed something before, `repeat`.

    Args:
        context: The caller, whose keys apply, and the stores.
        key: The idempotency key.
        operation: The name of the mutation; a repeat must have the same.
        arguments: The arguments of the mutation; a repeat must have the same.
        act: The mutation. What it records in the audit log claims the key.
        repeat: Makes the answer of a repeat.

    Raises:
        Conflict: The key was used for another mutation or other arguments.
        Invalid: The length of the key is out of range.
    """
    if not 1 <= len(key) <= idempotency.MAX_KEY_LENGTH:
        raise invalid("input.idempotencyKey", "LENGTH", f"must have 1 to {idempotency.MAX_KEY_LENGTH} characters")
    call = KeyedCall(operation, key, idempotency.arguments_hash(operation, arguments))
    while True:
        if (first := await _find(context, call)) is not None:
            return await repeat(first)
        try:
            with mutation_keys.claiming(call):
                answer = await act()
            await _claim_unchanged(context, call, answer)
            return answer
        except mutation_keys.KeyTaken:
            continue  # The other call has committed, so the next attempt finds what it has changed.
        except Problem:
            # What this call was refused for may be the change of the first call with this key.
            first = None if call.is_claimed else await _find(context, call)
            if first is None:
                raise
            return await repeat(first)


async def _find(context: Context, call: KeyedCall) -> FirstCall | None:
    """Find the first call with a key, which is of the caller and may be in a project that it no longer sees."""
    async with context.database.connect() as connection:
        return await mutation_keys.find(connection, context.caller, call)


async def _claim_unchanged(context: Context, call: KeyedCall, answer: object) -> None:
    """Claim the key of a call that has changed nothing, such as a draft that is saved again.

    A crash before it leaves no key, so a repeat acts as the first call would have.
    """
    changed = next((value for value in vars(answer).values() if hasattr(value, "project_id")), None)
    if call.is_claimed or changed is None:
        return
    async with context.database.begin() as connection:
        resource_id = getattr(changed, "id", None) or changed.workflow_id
        await mutation_keys.claim(connection, context.caller, call, changed.project_id, resource_id)


async def claim_test(context: Context, operation: str, project_id: str) -> None:
    """Claim the key of the current call before a test acts, because it has no transaction. Raises KeyTaken."""
    async with context.database.begin() as connection:
        await mutation_keys.claim_current(connection, context.caller, operation, project_id, project_id)


async def object_of(context: Context, first: FirstCall, *, is_draft: bool) -> object:
    """Return the object of a first call as it is now. Raises NotFound, and Conflict for a test."""
    resource_id = first.resource_id
    if is_draft:
        resource_id = Prefix.DRAFT + resource_id[resource_id.index("_") :]  # That of its workflow, but for the prefix.
    found = await global_ids.node(context, resource_id)
    if found is None:
        raise NotFound(first.resource_id)
    return found


def not_kept() -> Conflict:
    """Return the problem of a repeat whose first call has an answer that is not stored."""
    return Conflict(NOT_KEPT)
