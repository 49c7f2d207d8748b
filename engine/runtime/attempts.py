"""One node's execution: attempts, backoff and timeout, and whatever a node may raise turned into a RunError.

Nothing here is stored. A crash in the middle loses the attempt and no more: the node is launched again with the same key.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from engine.errors import NodeFailure
from engine.events import RunError
from engine.expressions.analysis import SECRETS
from engine.graph.bound_node import BoundNode
from engine.runtime.node_context import RunNodeContext
from engine.sdk.node import Outcome, Output, WaitForAnswer, WaitUntil
from engine.sdk.resources import Secrets
from engine.spec.model import Retry
from engine.types import JSON
from engine.values.storable import check_storable, clean_text, is_storable

log = structlog.get_logger()
WRONG_AGAIN = frozenset({"TEMPLATE", "OUTPUT", "CONFIG", "SECRET", "BUDGET", "TOOL_FORBIDDEN", "FENCED"})
NO_RETRY = Retry(max_attempts=1)


@dataclass(frozen=True, slots=True)
class Result:
    """How a node ended: with an outcome or with an error, after `attempts`."""

    outcome: Outcome | None
    error: RunError | None
    attempts: int
    started_at: datetime
    ended_at: datetime


async def attempt(
    work: BoundNode,
    context: RunNodeContext,
    on_retry: Callable[[int, RunError, float], None],
    on_again: Callable[[int], None],
) -> Result:
    """Runs a node until it succeeds, fails for good or has used up its attempts. Raises only CancelledError.

    `on_retry` is told of a failure and the pause that follows it, `on_again` when the pause is over.
    """
    retry = work.spec.retry or NO_RETRY
    started_at = datetime.now(UTC)
    number = context.attempt
    while True:
        outcome, error = await _once(work, context)
        if error is None or number >= retry.max_attempts or not _is_worth_retrying(work, error):
            return Result(outcome, error, number, started_at, datetime.now(UTC))
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # It was told to stop while it failed, and told of the failure alone.
        pause = _pause(retry, number, error)
        on_retry(number, error, pause)
        await asyncio.sleep(pause)
        number += 1
        context.begin_attempt(number)
        on_again(number)


def _is_worth_retrying(work: BoundNode, error: RunError) -> bool:
    """What is wrong for good is wrong again, and models say whether it is; anything else the author asked us to try again."""
    return error.retryable or not (error.code in WRONG_AGAIN or error.code.startswith("MODEL_"))


def _pause(retry: Retry, number: int, error: RunError) -> float:
    """At least as long as whoever was called asks for, as far as the policy allows."""
    asked = error.details.get("retryAfterS") if isinstance(error.details, dict) else None
    backoff = retry.backoff_s * retry.multiplier ** (number - 1)
    return min(max(backoff, asked if isinstance(asked, int | float) else 0.0), retry.max_s)


async def _once(work: BoundNode, context: RunNodeContext) -> tuple[Outcome | None, RunError | None]:
    node_id = work.spec.id
    limit = asyncio.timeout(work.spec.timeout_s)
    try:
        async with limit:
            outcome = await _executed(work, context)
        return outcome, None
    except NodeFailure as failure:
        details = context.redacted(failure.details) if is_storable(failure.details) else None
        message = context.redacted(clean_text(failure.message))
        return None, RunError(failure.code, message, node_id, failure.retryable, details)
    except asyncio.CancelledError:
        # Somebody stops us; or something that the node awaited was cancelled, which is a failure like any other.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return None, RunError("NODE", "something that the node waited for was cancelled", node_id, True)
    except Exception as fault:
        if limit.expired():
            told = f"node {node_id!r} did not finish within {work.spec.timeout_s} s"
            return None, RunError("TIMEOUT", told, node_id, True)
        # A fault of the node type itself: the author sees its name, the log has the traceback.
        log.exception("node raised", run_id=context.run_id, node_id=node_id, node_type=work.type.name)
        message = context.redacted(clean_text(f"{type(fault).__name__}: {fault}"))
        return None, RunError("NODE", message, node_id, False)


async def _executed(work: BoundNode, context: RunNodeContext) -> Outcome:
    """Checked to be storable. A node that names secrets sees them here and nowhere else."""
    if not work.secrets or SECRETS in context.scope:  # in a map: its own call has resolved them
        return await _result(work, context)
    resource: Secrets | None = context.resources.get("secrets")
    if resource is None:
        raise NodeFailure("SECRET", "there are no secrets here: this process knows none")
    with context.knowing(await resource.resolve(context.project_id, work.secrets)):
        return await _result(work, context)


async def _result(work: BoundNode, context: RunNodeContext) -> Outcome:
    try:
        outcome: Outcome = await work.type.execute(work.config, context)
    finally:
        context.settle()
    _check(outcome)
    return _redacted(outcome, context)


def _check(outcome: Outcome) -> None:
    if isinstance(outcome, Output):
        check_storable(outcome.value)
    elif isinstance(outcome, WaitUntil):
        check_storable(outcome.output.value)
    elif isinstance(outcome, WaitForAnswer):
        check_storable([outcome.prompt, outcome.schema])


def _redacted(outcome: Outcome, context: RunNodeContext) -> Outcome:
    if isinstance(outcome, Output):
        value = context.redacted(outcome.value)
        return outcome if value is outcome.value else replace(outcome, value=value)
    if isinstance(outcome, WaitUntil):
        return replace(outcome, output=replace(outcome.output, value=context.redacted(outcome.output.value)))
    if isinstance(outcome, WaitForAnswer):
        return replace(outcome, prompt=context.redacted(outcome.prompt), schema=context.redacted(outcome.schema))
    return outcome


def null_after_failure(error: RunError) -> JSON:
    """What stands as the output of a failed node whose error leaves by the port `error`."""
    return {"error": {"code": error.code, "message": error.message}}
