"""Say why a QUEUED run has not started yet."""

from dataclasses import dataclass

from engine.states import RunStatus
from persistence.maintenance.queue_facts import MOST_BEFORE, QueueFacts, QueueReasonCode
from persistence.runs.run import Run
from resolvers.context import Context


@dataclass(frozen=True, slots=True)
class QueueReason:
    """The first reason that applies, and what to do about it."""

    code: QueueReasonCode
    message: str
    runs_before: int


async def queue_reason(context: Context, run: Run) -> QueueReason | None:
    """Return why the run waits for a worker; None if it is not QUEUED (any more)."""
    if run.status is not RunStatus.QUEUED:
        return None
    facts = await context.loaders.queue_facts.load(run.id)
    thread = None if run.options.thread is None else run.options.thread.key
    return None if facts is None else reason_of(facts, context.policy.project_limit, thread)


def reason_of(facts: QueueFacts, project_limit: int | None, thread: str | None = None) -> QueueReason:
    """Choose the first reason that applies.

    Args:
        facts: The state of the queue.
        project_limit: TREADLE_PROJECT_LIMIT.
        thread: The key of the thread of the run, which is the owner of the limit then.
    """
    code, message = _reason(facts, project_limit)
    if code is QueueReasonCode.CONCURRENCY_LIMIT and thread is not None:
        message = f"Another run of its thread {thread!r} is executed. It starts when that one ends."
    return QueueReason(code, message, facts.before)


def _reason(facts: QueueFacts, project_limit: int | None) -> tuple[QueueReasonCode, str]:
    if not facts.live_workers:
        return QueueReasonCode.NO_WORKER, "No worker is alive. Start one with `treadle worker`, or look at its log."
    if facts.limit is not None and facts.executing >= facts.limit:
        return QueueReasonCode.CONCURRENCY_LIMIT, (
            f"{facts.executing} runs of its workflow are executed, and the `concurrency` of its spec allows {facts.limit}. "
            "It starts when one of them ends."
        )
    if project_limit is not None and facts.executing_in_project >= project_limit:
        return QueueReasonCode.PROJECT_LIMIT, (
            f"{facts.executing_in_project} runs of its project are executed, and TREADLE_PROJECT_LIMIT allows "
            f"{project_limit}. It starts when one of them ends."
        )
    if facts.before:
        count = f"{facts.before}{' or more' if facts.before >= MOST_BEFORE else ''}"
        return QueueReasonCode.BEHIND_OTHERS, (
            f"{count} QUEUED runs of its workflow or project start before it, and the slots of the workers are in use. "
            "Start more workers, or raise TREADLE_MAX_JOBS."
        )
    return QueueReasonCode.NEXT, (
        f"It is the first in its queue. One of {facts.live_workers} workers claims it when it has a free slot; projects take "
        "turns. If that takes long, start more workers, or raise TREADLE_MAX_JOBS."
    )
