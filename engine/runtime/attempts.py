"""The attempts of one visit of a node: timeout, backoff before a retry, exceptions as RunErrors.

A crash loses the current attempt only: it starts again with the same number and idempotency key.
The wait for the next attempt of a node is durable (engine.runtime.scheduler); an item of a map
waits in memory. The task runner, inline nodes, maps and node tests use this module.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

import structlog

from engine import tracing
from engine.errors import RETRY_AFTER, NodeFailure, NodeInterrupted, may_be_transient
from engine.events import RunError
from engine.expressions.analysis import SECRETS
from engine.graph.bound_node import BoundNode
from engine.runtime.node_context import RunNodeContext
from engine.sdk.node import (
    ERROR_PORT,
    Answerers,
    Outcome,
    Output,
    ThreadMessage,
    WaitForAnswer,
    WaitForEvent,
    WaitForRun,
    WaitUntil,
)
from engine.sdk.resources import Secrets
from engine.spec.model import OnError, Retry
from engine.states import LogLevel
from engine.types import JSON
from engine.values.large_values import off_loop
from engine.values.storable import clean_text, is_storable, stored_form

log = structlog.get_logger()
FENCED = "FENCED"
"""The code after the loss of the lease. No attempt follows, because another worker has the run."""
MAX_THREAD_MESSAGE = 100_000
"""Characters of a message of a thread. Of a longer one, the beginning is stored."""
MAX_MESSAGE = 10_000
"""Characters of the message of an error, which is stored in several places."""
NO_RETRY = Retry(max_attempts=1)


@dataclass(frozen=True, slots=True)
class NodeResult:
    """The outcome or the error of an attempt. `attempts` is its number.

    `backoff_s` is the pause before the next attempt in seconds; None if this attempt ends the
    visit.
    """

    outcome: Outcome | None
    error: RunError | None
    attempts: int
    started_at: datetime
    ended_at: datetime
    backoff_s: float | None = None


async def run_attempt(node: BoundNode, context: RunNodeContext) -> NodeResult:
    """Run the attempt of a node whose number the context has.

    The retries are written by hand: the number comes from a checkpoint, the pause depends on the
    error and is a durable wait, and the task may be cancelled while the attempt fails. With
    tenacity each of these would be a callback.

    Raises:
        asyncio.CancelledError: The task was cancelled.
        NodeInterrupted: The node has stopped on request. No other exception leaves this function.
    """
    retry, number, started_at = node.spec.retry or NO_RETRY, context.attempt, datetime.now(UTC)
    try:
        outcome, error = await (_traced_attempt if tracing.is_on() else _attempt)(node, context)
    finally:
        context.end_attempt()
    result = NodeResult(outcome, error, number, started_at, datetime.now(UTC))
    if error is None or number >= retry.max_attempts or not is_repeated(error, retry):
        return result
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # The task was cancelled while the node failed, and only the failure came through.
        raise asyncio.CancelledError
    result = replace(result, backoff_s=_backoff_s(retry, number, error))
    _log_retry(context, result, error)
    return result


def _log_retry(context: RunNodeContext, result: NodeResult, error: RunError) -> None:
    """Log a failed attempt that another one follows."""
    seconds = round((result.ended_at - result.started_at).total_seconds(), 3)
    number, backoff_s = result.attempts, result.backoff_s
    message = f"attempt {number} failed: {error.message}; attempt {number + 1} begins in {backoff_s:g} s"
    context.log(LogLevel.WARNING, message, attempt=number, code=error.code, seconds=seconds, backoffS=backoff_s)


async def _traced_attempt(node: BoundNode, context: RunNodeContext) -> tuple[Outcome | None, RunError | None]:
    attributes = {
        "treadle.run.id": context.run_id,
        "treadle.node.id": node.spec.id,
        "treadle.node.type": node.spec.type,
        "treadle.node.visit": context.visit,
        "treadle.node.attempt": context.attempt,
    }
    with tracing.span(f"node {node.spec.type}", attributes=attributes) as span:
        outcome, error = await _attempt(node, context)
        tracing.end_with(span, None if error is None else error.code)
        return outcome, error


async def run_attempts(node: BoundNode, context: RunNodeContext) -> NodeResult:
    """Run a node in memory until it succeeds, fails permanently or has used up its attempts.

    Args:
        node: The node.
        context: The context of this visit.

    Raises:
        asyncio.CancelledError: The task was cancelled.
        NodeInterrupted: The run stops, and no attempt was running. No other exception leaves this
            function.
    """
    result = first = await run_attempt(node, context)
    while result.backoff_s is not None:
        await context.pause(result.backoff_s)
        context.begin_attempt(result.attempts + 1)
        result = await run_attempt(node, context)
    return replace(result, started_at=first.started_at)


def is_repeated(error: RunError, retry: Retry) -> bool:
    """Whether a retry policy repeats an error: its codes decide, and without codes `retryable`."""
    if error.code == FENCED:
        return False
    return error.code in retry.on if retry.on else error.retryable


def _backoff_s(retry: Retry, number: int, error: RunError) -> float:
    """Compute the pause before the next attempt, in seconds.

    It is the longer of the exponential backoff and the `retryAfterS` of the failed service, and at
    most `max_s` of the policy.
    """
    retry_after = error.details.get(RETRY_AFTER) if isinstance(error.details, dict) else None
    backoff = retry.backoff_s * retry.multiplier ** (number - 1)
    return min(max(backoff, retry_after if isinstance(retry_after, int | float) else 0.0), retry.max_s)


async def _attempt(node: BoundNode, context: RunNodeContext) -> tuple[Outcome | None, RunError | None]:
    """Run one attempt within the timeout of the node, and convert every failure to a RunError."""
    node_id = node.spec.id
    timeout_s = node.spec.timeout_s
    limit = None if timeout_s is None else asyncio.timeout(timeout_s)
    try:
        if limit is None:
            return await _execute(node, context), None
        async with limit:
            outcome = await _execute(node, context)
        return outcome, None
    except NodeInterrupted:
        raise
    except NodeFailure as failure:
        details = context.redact(stored_form(failure.details)) if is_storable(failure.details) else None
        message = _message(context, failure.message)
        return None, RunError(failure.code, message, node_id, failure.retryable, details)
    except asyncio.CancelledError:
        # Either this task is cancelled, or something that the node awaited was cancelled. The
        # second case is a failure like any other.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return None, RunError("NODE", "something that the node waited for was cancelled", node_id, True)
    except Exception as error:
        if limit is not None and limit.expired():
            message = f"node {node_id!r} did not finish within {timeout_s} s"
            return None, RunError("TIMEOUT", message, node_id, True)
        # A bug of the node type: the author sees the exception, and the log has the traceback
        # (docs/decisions/0034-exceptions-of-packages.md).
        log.exception("node.exception_raised", run_id=context.run_id, node_id=node_id, node_type=node.type.name)
        message = _message(context, f"{type(error).__name__}: {error}")
        return None, RunError("NODE", message, node_id, may_be_transient(error))


def _message(context: RunNodeContext, text: str) -> str:
    """Return the message of an error as it is stored: redacted, and not longer than MAX_MESSAGE."""
    message: str = context.redact(clean_text(text))
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}… ({len(message):,} characters)"


async def _execute(node: BoundNode, context: RunNodeContext) -> Outcome:
    """Execute the node, with its secrets in scope if it names some.

    In an item of a map they are in scope already: the call of the map has resolved them.
    """
    if not node.secrets or SECRETS in context.scope:
        return await _checked_outcome(node, context)
    resource: Secrets | None = context.resources.get("secrets")
    if resource is None:
        raise NodeFailure("SECRET", "this process has no access to secrets, so the node cannot use them")
    with context.with_secrets(await resource.resolve(context.project_id, node.secrets)):
        return await _checked_outcome(node, context)


async def _checked_outcome(node: BoundNode, context: RunNodeContext) -> Outcome:
    """Return the outcome of the node, checked to be storable and without secrets."""
    try:
        if node.callbacks:
            context.add_callback_addresses(node.callback)
        outcome: Outcome = await node.type.execute(node.config, context)
    finally:
        context.flush_text()
    return _redact(_stored_form(outcome), context)


def _stored_form(outcome: Outcome) -> Outcome:
    """Return an outcome whose values have their stored form. Raises NotStorable."""
    match outcome:
        case Output(value):
            stored = off_loop(stored_form, value)
            return outcome if stored is value else replace(outcome, value=stored)
        case WaitUntil(_, output):
            return replace(outcome, output=replace(output, value=off_loop(stored_form, output.value)))
        case WaitForAnswer(prompt, schema, _, answerers):
            prompt, schema, limits = off_loop(stored_form, [prompt, schema, answerers and answerers.to_json()])
            return replace(outcome, prompt=prompt, schema=schema, answerers=Answerers.from_json(limits))
        case WaitForEvent(name, key, schema):
            name, key, schema = off_loop(stored_form, [name, key, schema])
            return replace(outcome, name=name, key=key, schema=schema)
        case WaitForRun():
            return outcome
        case _:
            assert_never(outcome)


def _redact(outcome: Outcome, context: RunNodeContext) -> Outcome:
    match outcome:
        case Output(value):
            if outcome.messages:
                outcome = replace(outcome, messages=_redact_messages(outcome.messages, context))
            redacted = context.redact(value)
            return outcome if redacted is value else replace(outcome, value=redacted)
        case WaitUntil(_, output):
            return replace(outcome, output=replace(output, value=context.redact(output.value)))
        case WaitForAnswer(prompt, schema):
            return replace(outcome, prompt=context.redact(prompt), schema=context.redact(schema))
        case WaitForEvent(name, key, schema):
            redact = context.redact
            return replace(outcome, name=redact(name), key=redact(key), schema=redact(schema))
        case WaitForRun():
            return outcome
        case _:
            assert_never(outcome)


def _redact_messages(messages: Sequence[ThreadMessage], context: RunNodeContext) -> tuple[ThreadMessage, ...]:
    """Return the messages as they are stored: without secrets and not longer than MAX_THREAD_MESSAGE."""
    contents = [context.redact(clean_text(message.content))[:MAX_THREAD_MESSAGE] for message in messages]
    return tuple(replace(message, content=content) for message, content in zip(messages, contents, strict=True))


def interpret(result: NodeResult, on_error: OnError) -> tuple[JSON, str | None, RunError | None]:
    """Return the output, the port and the error of a visit, as `onError` of its node demands."""
    if result.error is None:
        assert isinstance(result.outcome, Output)
        return result.outcome.value, result.outcome.port, None
    if on_error is OnError.BRANCH:
        return _error_output(result.error), ERROR_PORT, result.error
    return None, None, result.error


def _error_output(error: RunError) -> JSON:
    """Return the output of a failed node that leaves by the port `error`: the whole error."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "nodeId": error.node_id,
            "retryable": error.retryable,
            "details": error.details,
        }
    }
