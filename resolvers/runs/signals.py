"""Send events to runs, by `sendEvent` or by the callback address of a wait, and list them.

An event is one transaction, which stores it and ends the wait for it, once for each idempotency key or
address. The response is sent after the commit.
"""

from asyncio import to_thread
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import select

from engine.errors import NodeFailure, NotStorable
from engine.states import SignalStatus
from engine.triggers.webhook import BadMessage, WebhookConfig, WebhookMessage, parse_body
from engine.types import JSON
from engine.values.json_schema import check_inputs
from engine.values.storable import check_storable
from persistence.caller import Caller
from persistence.db.ids import Prefix
from persistence.db.pagination import Page, PageArguments
from persistence.db.tables import runs as run_table
from persistence.problems import Conflict, Invalid, InvalidState, Problem, invalid
from persistence.runs import run as runs
from persistence.runs.idempotency import MAX_KEY_LENGTH, arguments_hash
from persistence.runs.run import Run, transitions_of
from persistence.runs.waits import Wait
from persistence.secrets.keyring import KeyProblem
from persistence.signals import delivery, matching, signal
from persistence.signals.callback import Callback, CallbackSigner, callback_caller
from persistence.signals.delivery import NotChecked, Sent
from persistence.signals.signal import NewSignal, SentSignal, SignalsOfRun
from persistence.workflows import workflows
from resolvers.authorise import require
from resolvers.checks import check_visible
from resolvers.context import Context
from resolvers.idempotent import publish_transitions, shielded
from resolvers.permissions import MUTATIONS, SEE_CALLBACK_ADDRESS
from resolvers.runs.start import own_run
from resolvers.triggers.responses import HookResponse, refusal
from resolvers.triggers.webhooks import RateLimit

MAX_PAYLOAD = 1024 * 1024
"""Bytes of the payload of an event, as JSON."""
MAX_NAME = 200
MAX_ATTEMPTS = 5
"""How often sending begins anew because another wait was opened in the meantime."""
REQUESTS_PER_MINUTE = 600
"""Requests to the callback addresses of one run that one server accepts in a minute."""
rate_limit = RateLimit()
_BODY = WebhookConfig.model_validate({})


@dataclass(frozen=True, slots=True)
class EventArguments:
    """The arguments of `sendEvent`."""

    name: str
    payload: JSON
    run_id: str | None
    workflow_id: str | None
    key: str | None
    idempotency_key: str | None


async def send_event(context: Context, arguments: EventArguments) -> tuple[list[Run], SentSignal]:
    """Send an event to a run, or to the runs of a workflow that wait with a key.

    Returns:
        The runs that were waiting for it, and the stored event.

    Raises:
        NotFound, Forbidden: The run or the workflow is hidden, or the caller is no runner.
        Invalid: With all problems of the arguments, or of the payload by the schema of the wait.
        InvalidState: The run has ended.
        Conflict: The idempotency key was used with other arguments, or too many events are kept.
    """
    _check(arguments)
    if arguments.run_id is not None:
        project_id = (await own_run(context, "sendEvent", arguments.run_id)).project_id
    else:
        async with context.read() as connection:
            workflow = await workflows.get(connection, context.caller, arguments.workflow_id or "")
        project_id = workflow.project_id
        require(context.caller, MUTATIONS["sendEvent"], project_id)
    hashed = arguments_hash(
        "sendEvent",
        [arguments.run_id, arguments.workflow_id, arguments.key, arguments.name, arguments.payload],
    )
    new = NewSignal(
        project_id,
        arguments.name,
        arguments.payload,
        hashed,
        arguments.run_id,
        arguments.workflow_id,
        arguments.key,
        idempotency_key=arguments.idempotency_key,
    )
    try:
        sent = await _send(context, new)
    except Invalid as problem:
        raise Invalid([replace(one, field=f"input.{one.field}") for one in problem.errors]) from problem
    async with context.read() as connection:
        by_id = await runs.get_many(connection, context.caller, list(sent.run_ids))
    return [by_id[id] for id in sent.run_ids if id in by_id], sent.signal


def _check(arguments: EventArguments) -> None:
    if (arguments.run_id is None) == (arguments.workflow_id is None):
        raise invalid("input.runId", "EXCLUSIVE", "give either runId, or workflowId and key")
    if (arguments.workflow_id is None) != (arguments.key is None):
        raise invalid("input.key", "REQUIRED", "workflowId and key belong together")
    for field, text in (("name", arguments.name), ("key", arguments.key)):
        if text is not None and (not 1 <= len(text) <= MAX_NAME or "\0" in text):
            raise invalid(f"input.{field}", "LENGTH", f"must have 1 to {MAX_NAME} characters")
    check_visible("input.name", arguments.name)
    key = arguments.idempotency_key
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise invalid("input.idempotencyKey", "LENGTH", f"must have 1 to {MAX_KEY_LENGTH} characters")
    try:
        check_storable(arguments.payload)
    except NotStorable as error:
        raise invalid(f"input.payload{error.path}", "NOT_STORABLE", str(error)) from error
    if (size := len(orjson.dumps(arguments.payload))) > MAX_PAYLOAD:
        raise invalid("input.payload", "TOO_LARGE", f"has {size:,} bytes of JSON, over the limit of {MAX_PAYLOAD:,}")


async def _send(context: Context, new: NewSignal) -> Sent:
    """Check the payload against the schemas of all waits for it, and send it."""
    for _ in range(MAX_ATTEMPTS):
        async with context.read() as connection:
            found = await delivery.find_waits(connection, new)
        problems = {wait_id: await to_thread(check_inputs, new.payload, schema) for wait_id, schema in found}
        renamed = {
            wait_id: [replace(one, field=one.field.replace("inputs", "payload", 1)) for one in each]
            for wait_id, each in problems.items()
        }
        try:
            return await shielded(_commit(context, new, renamed))
        except NotChecked:
            continue
    raise Conflict("Other waits for this event were opened while it was sent: send it again.")


async def _commit(context: Context, new: NewSignal, problems: delivery.Problems) -> Sent:
    async with context.database.begin() as connection:
        sent = await delivery.send(
            connection, context.caller, new, problems, keep=context.database.deadlines.kept_events
        )
    results = list(sent.results)
    if sent.signal.status is SignalStatus.KEPT and sent.run_ids:
        results += await matching.match_waits(context.database, sent.run_ids)
    await publish_transitions(context, transitions_of(results))
    for one in results:
        if not one.transitions:
            await context.notifier.notify_run(one.run.id)
    return sent


async def receive_callback(
    context_of: Callable[[Caller], Context], find: Context, token: str, message: WebhookMessage
) -> HookResponse:
    """Receive a request to a callback address, and record it in the run if it is refused."""
    signer: CallbackSigner = find.resources["callbacks"]
    try:
        callback, is_valid = signer.read(token)
    except KeyProblem as error:
        return refusal(503, f"the address cannot be checked: {error}")
    if callback is None:
        return refusal(404, "there is no callback at this address")
    if not rate_limit.admit(callback.run_id, REQUESTS_PER_MINUTE):
        return refusal(429, f"more than {REQUESTS_PER_MINUTE} requests in this minute", {"Retry-After": "60"})
    async with find.database.connect() as connection:
        query = select(run_table.c.project_id).where(run_table.c.id == callback.run_id)
        project_id = (await connection.execute(query)).scalar_one_or_none()
    if project_id is None:
        return refusal(410 if is_valid else 404, "the run of this address does not exist any more")
    context = context_of(callback_caller(project_id))
    new = NewSignal(
        project_id, callback.node_id, None, "", callback.run_id, node_id=callback.node_id, visit=callback.visit
    )
    if not is_valid:
        return await _refuse(context, new, 401, "the signature of the address is not valid")
    return await _receive(context, callback, new, message)


async def _receive(context: Context, callback: Callback, new: NewSignal, message: WebhookMessage) -> HookResponse:
    if len(message.body) > MAX_PAYLOAD:
        return await _refuse(context, new, 413, f"the body has more than {MAX_PAYLOAD:,} bytes")
    try:
        payload = parse_body(_BODY, message) if message.body else None
    except BadMessage as error:
        return await _refuse(context, new, 400, str(error))
    new = replace(new, payload=payload, arguments_hash=arguments_hash("callback", payload))
    try:
        sent = await _send(context, new)
    except Invalid as problem:
        details = [{"field": one.field, "message": one.message} for one in problem.errors[:20]]
        first = details[0]
        refused = await _refuse(context, new, 422, f"the payload does not match: {first['field']} {first['message']}")
        return HookResponse(422, {**_object(refused.body), "errors": details})
    except (Conflict, InvalidState) as problem:
        return await _refuse_late(context, new, problem)
    status = "delivered" if sent.run_ids else "kept"
    return HookResponse(202, {"runId": callback.run_id, "status": status})


async def _refuse_late(context: Context, new: NewSignal, problem: Problem) -> HookResponse:
    """Refuse a request to an address that was used before, or is too old. A repeat of the same is accepted."""
    async with context.read() as connection:
        is_repeat = await delivery.same_callback_was_accepted(connection, new)
    if is_repeat:
        async with context.database.begin() as connection:
            await signal.record_refusal(connection, context.caller, new, SignalStatus.DUPLICATE, problem.detail)
        return HookResponse(202, {"runId": new.run_id, "status": "duplicate"})
    is_over = isinstance(problem, InvalidState)
    return await _refuse(context, new, 410 if is_over else 409, problem.detail.rstrip("."))


async def _refuse(context: Context, new: NewSignal, status: int, reason: str) -> HookResponse:
    async with context.database.begin() as connection:
        await signal.record_refusal(connection, context.caller, new, SignalStatus.REFUSED, reason)
    return refusal(status, reason)


def _object(body: JSON) -> dict[str, Any]:
    assert isinstance(body, dict)
    return body


async def callback_address(context: Context, wait: Wait) -> str | None:
    """Return the callback address of a wait. None for callers who may not see it, and without a key."""
    run = await context.loaders.run.load(wait.run_id)
    signer: CallbackSigner | None = context.resources.get("callbacks")
    if run is None or signer is None or not context.caller.may(SEE_CALLBACK_ADDRESS, run.project_id):
        return None
    try:
        return signer.address(wait.run_id, wait.node_id, wait.visit)
    except NodeFailure:
        return None  # `treadle doctor` shows that there is no key.


async def signal_page(context: Context, run_id: str, arguments: PageArguments) -> Page[SentSignal]:
    """Return a page of the events of a run, newest first."""
    page = await context.loaders.signals.load(SignalsOfRun(run_id, arguments.checked(Prefix.SIGNAL)))
    assert page is not None
    return page
