"""The attempts of one visit of a node: retries with backoff, timeout, exceptions as RunErrors.

Nothing here is durable. A crash loses the current attempt only: the node starts again with the same
idempotency key. The task runner, inline nodes, maps and node tests use it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

import structlog

from engine.errors import NodeFailure, may_be_transient
from engine.events import RunError
from engine.expressions.analysis import SECRETS
from engine.graph.bound_node import BoundNode
from engine.runtime.node_context import RunNodeContext
from engine.sdk.node import Outcome, Output, WaitForAnswer, WaitForRun, WaitUntil
from engine.sdk.resources import Secrets
from engine.spec.model import Retry
from engine.types import JSON
from engine.values.storable import check_storable, clean_text, is_storable

log = structlog.get_logger()
FENCED = "FENCED"
"""The code after the loss of the lease. No attempt follows, because another worker has the run."""
NO_RETRY = Retry(max_attempts=1)


@dataclass(frozen=True, slots=True)
class NodeResult:
    """The outcome or the error of a visit. `attempts` is the number of the last attempt."""

    outcome: Outcome | None
    error: RunError | None
    attempts: int
    started_at: datetime
    ended_at: datetime


async def run_attempts(
    node: BoundNode,
    context: RunNodeContext,
    on_failure: Callable[[int, RunError, float], None],
    on_start: Callable[[int], None],
) -> NodeResult:
    """Run a node until it succeeds, fails permanently or has used up its attempts.

    The loop is written by hand: the first number comes from a checkpoint, the pause depends on the
    error, and the task may be cancelled while an attempt fails. With tenacity each of these would
    be a callback.

    Args:
        node: The node.
        context: The context of this visit.
        on_failure: Called with the number of a failed attempt, its error and the pause before the
            next attempt in seconds.
        on_start: Called with the number of each attempt after the first.

    Raises:
        asyncio.CancelledError: The task was cancelled. No other exception leaves this function.
    """
    retry = node.spec.retry or NO_RETRY
    started_at = datetime.now(UTC)
    number = context.attempt
    while True:
        outcome, error = await _attempt(node, context)
        if error is None or number >= retry.max_attempts or not is_repeated(error, retry):
            return NodeResult(outcome, error, number, started_at, datetime.now(UTC))
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # The task was cancelled while the node failed, and only the failure came through.
            raise asyncio.CancelledError
        pause_s = _pause(retry, number, error)
        on_failure(number, error, pause_s)
        await asyncio.sleep(pause_s)
        number += 1
        context.begin_attempt(number)
        on_start(number)


def is_repeated(error: RunError, retry: Retry) -> bool:
    """Whether a retry policy repeats an error: its codes decide, and without codes `retryable`."""
    if error.code == FENCED:
        return False
    return error.code in retry.on if retry.on else error.retryable


def _pause(retry: Retry, number: int, error: RunError) -> float:
    """Compute the pause before the next attempt, in seconds.

    It is the longer of the exponential backoff and the `retryAfterS` of the failed service, and at
    most `max_s` of the policy.
    """
    retry_after = error.details.get("retryAfterS") if isinstance(error.details, dict) else None
    backoff = retry.backoff_s * retry.multiplier ** (number - 1)
    return min(max(backoff, retry_after if isinstance(retry_after, int | float) else 0.0), retry.max_s)


async def _attempt(node: BoundNode, context: RunNodeContext) -> tuple[Outcome | None, RunError | None]:
    """Run one attempt within the timeout of the node, and convert every failure to a RunError."""
    node_id = node.spec.id
    limit = asyncio.timeout(node.spec.timeout_s)
    try:
        async with limit:
            outcome = await _execute(node, context)
        return outcome, None
    except NodeFailure as failure:
        details = context.redact(failure.details) if is_storable(failure.details) else None
        message = context.redact(clean_text(failure.message))
        return None, RunError(failure.code, message, node_id, failure.retryable, details)
    except asyncio.CancelledError:
        # Either this task is cancelled, or something that the node awaited was cancelled. The
        # second case is a failure like any other.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return None, RunError("NODE", "something that the node waited for was cancelled", node_id, True)
    except Exception as error:
        if limit.expired():
            message = f"node {node_id!r} did not finish within {node.spec.timeout_s} s"
            return None, RunError("TIMEOUT", message, node_id, True)
        # A bug of the node type: the user sees the exception, the log has the traceback.
        log.exception("node.exception_raised", run_id=context.run_id, node_id=node_id, node_type=node.type.name)
        message = context.redact(clean_text(f"{type(error).__name__}: {error}"))
        return None, RunError("NODE", message, node_id, may_be_transient(error))


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
        outcome: Outcome = await node.type.execute(node.config, context)
    finally:
        context.flush_text()
    _check_storable(outcome)
    return _redact(outcome, context)


def _check_storable(outcome: Outcome) -> None:
    match outcome:
        case Output(value):
            check_storable(value)
        case WaitUntil(_, output):
            check_storable(output.value)
        case WaitForAnswer(prompt, schema):
            check_storable([prompt, schema])
        case WaitForRun():
            pass
        case _:
            assert_never(outcome)


def _redact(outcome: Outcome, context: RunNodeContext) -> Outcome:
    match outcome:
        case Output(value):
            redacted = context.redact(value)
            return outcome if redacted is value else replace(outcome, value=redacted)
        case WaitUntil(_, output):
            return replace(outcome, output=replace(output, value=context.redact(output.value)))
        case WaitForAnswer(prompt, schema):
            return replace(outcome, prompt=context.redact(prompt), schema=context.redact(schema))
        case WaitForRun():
            return outcome
        case _:
            assert_never(outcome)


def error_output(error: RunError) -> JSON:
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
