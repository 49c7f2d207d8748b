"""Receive the requests of webhooks, list and replay them, and rotate their addresses.

A request is stored with the verdict on its signature before it is parsed. Then one transaction writes
the event and accepts the run, once for each message. The response is sent after the commit, so a
sender that gets none may send again: the repeat finds the first run.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hmac import compare_digest
from time import monotonic
from typing import ParamSpec, TypeVar

import structlog

from engine.errors import NodeFailure
from engine.isolation import suspension
from engine.isolation.computation import compute
from engine.isolation.turns import Owner, working_for
from engine.states import TriggerEventStatus
from engine.triggers.registry import config_of, installed_trigger_kinds
from engine.triggers.webhook import (
    BadMessage,
    SignatureVerdict,
    WebhookConfig,
    WebhookMessage,
    event_of,
    message_key,
    parse_body,
    verify,
)
from engine.types import JSON
from persistence.audit_log import record
from persistence.caller import Caller
from persistence.db.ids import Prefix, new_id
from persistence.db.pagination import Page, PageArguments
from persistence.problems import Invalid, InvalidState, invalid
from persistence.runs.run import Run
from persistence.triggers import trigger as triggers
from persistence.triggers import webhooks
from persistence.triggers.events import Firing, RecordedFiring
from persistence.triggers.firing import PublishedVersion, prepare
from persistence.triggers.trigger import Trigger
from persistence.triggers.webhooks import DeliveriesOfTrigger, FoundWebhook, NewDelivery, WebhookDelivery
from persistence.workflows import drafts, versions
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import MUTATIONS, SEE_WEBHOOK_ADDRESS
from resolvers.runs.large_values import with_values
from resolvers.runs.start import wait_until_idle
from resolvers.triggers import messages
from resolvers.triggers.batch_queue import TooManyWaiting
from resolvers.triggers.responses import HookResponse, Refused, refusal, run_response
from resolvers.triggers.start import run_trigger
from resolvers.workflows.specs import check_runnable

log = structlog.get_logger(__name__)

ResultT = TypeVar("ResultT")
P = ParamSpec("P")
LARGE = 64 * 1024
"""Bytes of a body from which it is read in a thread."""
MAX_OVERLAP_S = 30 * 86_400
"""The longest time for which the previous address of a webhook works."""
_VERDICTS = {
    SignatureVerdict.MISSING: "the request has no signature, or no time",
    SignatureVerdict.INVALID: "the signature does not match the body and the secret",
    SignatureVerdict.EXPIRED: "the signed time is outside of the replay window",
}


class RateLimit:
    """The requests of each webhook in the present minute, in this process."""

    def __init__(self) -> None:
        self._minute, self._counts = 0, Counter[str]()

    def admit(self, trigger_id: str, limit: int) -> bool:
        """Count a request, and return whether it is within the limit."""
        minute = int(monotonic() // 60)
        if minute != self._minute:
            self._minute, self._counts = minute, Counter()
        self._counts[trigger_id] += 1
        return self._counts[trigger_id] <= limit


rate_limit = RateLimit()


async def receive(
    context_of: Callable[[Caller], Context], find: Context, token: str, message: WebhookMessage, address: str | None
) -> HookResponse:
    """Receive one request.

    Args:
        context_of: Makes the context of the caller of the trigger.
        find: A context of nobody, to find the trigger.
        token: The last part of the address.
        message: The request.
        address: The IP address of the client.
    """
    try:
        row = await messages.find(find, token)
    except TooManyWaiting:
        return _queue_full()
    if row is None:
        return refusal(404, "there is no webhook at this address")
    found, version = row
    trigger, context = found.trigger, context_of(found.trigger.caller)
    try:
        _, config = config_of(installed_trigger_kinds(), trigger.kind, trigger.config)
    except ValueError as error:
        return refusal(409, f"the trigger cannot be used: {error}")
    if not config.allows(address):
        log.info("webhooks.address_refused", trigger_id=trigger.id, address=address)
        return refusal(403, "this address is not among the allowed ones of the trigger")
    if message.method == "GET":
        return await _answer_challenge(context, found, config, message)
    if not rate_limit.admit(trigger.id, config.ratePerMinute):
        return refusal(429, f"more than {config.ratePerMinute:,} requests in this minute", {"Retry-After": "60"})
    with working_for(Owner(trigger.project_id, trigger.id)):
        try:
            return await _receive_message(context, found, version, config, message, address)
        except TooManyWaiting:
            log.warning("webhooks.queue_full", trigger_id=trigger.id)
            return _queue_full()


def _queue_full() -> HookResponse:
    return refusal(503, "too many requests wait: send the message again", {"Retry-After": "5"})


async def _receive_message(
    context: Context,
    found: FoundWebhook,
    version: PublishedVersion | None,
    config: WebhookConfig,
    message: WebhookMessage,
    address: str | None,
) -> HookResponse:
    delivery_id: str | None = None
    try:
        if not found.trigger.enabled and not found.is_test:
            raise Refused(409, "the trigger is disabled")
        if len(message.body) > config.maxBodyBytes:
            raise Refused(413, f"the body has {len(message.body):,} bytes, over the limit of {config.maxBodyBytes:,}")
        verdict, id = await _verdict(context, found, config, message)
        new = NewDelivery(new_id(Prefix.WEBHOOK_DELIVERY), found, message, address, verdict, id)
        await messages.store(context, new)
        delivery_id = new.id
        if verdict in _VERDICTS:
            raise Refused(401, _VERDICTS[verdict])
        key, event = await _read(config, message, id, found, delivery_id)
        recorded = await _fire(context, found, version, key, event, new)
    except Refused as refused:
        await _record_refusal(context, found.trigger, delivery_id, message, refused.reason)
        return refusal(refused.status, refused.reason)
    return await _response(context, config, recorded)


async def _verdict(
    context: Context, found: FoundWebhook, config: WebhookConfig, message: WebhookMessage
) -> tuple[SignatureVerdict, str | None]:
    if config.signature is None:
        return SignatureVerdict.UNSIGNED, None
    secret = await _secret(context, found.trigger, config.signature.secret)
    return await _in_turn(message, verify, config.signature, secret, message, found.now)


async def _secret(context: Context, trigger: Trigger, name: str) -> str:
    try:
        return await messages.secret(context, trigger.project_id, name)
    except NodeFailure as error:
        raise Refused(503, f"the signature cannot be checked: {error.message}") from error


async def _in_turn(
    message: WebhookMessage, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs
) -> ResultT:
    """Call a function whose time depends on the body; for a large body in a thread, in turn."""
    if len(message.body) <= LARGE:
        return function(*args, **kwargs)
    return await compute(function, *args, **kwargs)


async def _read(
    config: WebhookConfig, message: WebhookMessage, id: str | None, found: FoundWebhook, delivery_id: str
) -> tuple[str, JSON]:
    """Return the deduplication key and the event of a message. Raises Refused."""
    try:
        event = await _in_turn(message, _event_of, config, message, id, found)
        key = await suspension.call(message_key, config, id, message, event)
    except BadMessage as error:
        raise Refused(400, str(error)) from error
    if found.is_test or key is None:
        return f"delivery:{delivery_id}", event
    return f"message:{key}", event


def _event_of(config: WebhookConfig, message: WebhookMessage, id: str | None, found: FoundWebhook) -> JSON:
    return event_of(message, id, parse_body(config, message), found.now)


async def _fire(
    context: Context, found: FoundWebhook, version: PublishedVersion | None, key: str, event: JSON, new: NewDelivery
) -> RecordedFiring:
    """Write the event and accept its run, in one transaction. Raises Refused."""
    trigger = found.trigger
    if found.is_test:
        version = await messages.share(("draft", trigger.id), lambda: _draft_version(context, trigger))
    firing = await prepare(trigger, key, event, version)
    if found.is_test and firing.new is not None:
        firing = replace(firing, status=TriggerEventStatus.TEST)
    return await messages.record(context, firing, new.id, len(new.message.body))


async def _draft_version(context: Context, trigger: Trigger) -> PublishedVersion | None:
    """Make a version of the draft, for the test address. Raises Refused if the draft has errors."""
    async with context.read() as connection:
        draft = await drafts.get(connection, context.caller, trigger.workflow_id)
    try:
        await check_runnable(context, draft.spec)
    except Invalid as error:
        raise Refused(422, f"the draft has errors: {error.detail}") from error
    async with context.database.begin() as connection:
        version, _ = await versions.freeze(connection, context.caller, draft, is_trial=True)
    return await messages.published(context, version.id)


async def _record_refusal(
    context: Context, trigger: Trigger, delivery_id: str | None, message: WebhookMessage, reason: str
) -> None:
    """Record a request that starts no run as a FAILED event. The body is in the delivery only."""
    payload = {"method": message.method, "contentType": message.content_type or None, "bytes": len(message.body)}
    key = f"refused:{delivery_id or new_id(Prefix.WEBHOOK_DELIVERY)}"
    firing = Firing(trigger, key, payload, TriggerEventStatus.FAILED, error=reason)
    await messages.record(context, firing, delivery_id, 0)


async def _response(context: Context, config: WebhookConfig, recorded: RecordedFiring) -> HookResponse:
    event = recorded.event
    match event.status:
        case TriggerEventStatus.FAILED:
            return refusal(422, event.error or "no run was started")
        case TriggerEventStatus.SKIPPED:
            return refusal(429, event.error or "no run was started", {"Retry-After": "60"})
        case _:
            accepted = HookResponse(202, {"runId": event.run_id, "eventId": event.id, "status": event.status})
    if config.respond == "async" or event.run_id is None:
        return accepted
    run = recorded.run or await messages.read_run(context, event.run_id)
    if run is None:
        return accepted
    ended = await wait_until_idle(context, run, int(config.timeoutS * 1000))
    return run_response(await with_values(context, ended), accepted)


async def _answer_challenge(
    context: Context, found: FoundWebhook, config: WebhookConfig, message: WebhookMessage
) -> HookResponse:
    """Answer a GET request by which a service checks the address."""
    challenge = config.challenge
    if challenge is None:
        return refusal(405, "send messages by POST", {"Allow": "POST"})
    if challenge.verifyParameter is not None:
        try:
            secret = await _secret(context, found.trigger, challenge.secret or "")
        except Refused as refused:
            return refusal(refused.status, refused.reason)
        if not compare_digest(message.query.get(challenge.verifyParameter, "").encode(), secret.encode()):
            return refusal(403, f"the parameter {challenge.verifyParameter} has not the value of its secret")
    value = message.query.get(challenge.parameter)
    if value is None:
        return refusal(400, f"the request has no parameter {challenge.parameter}")
    return HookResponse(200, value, {"Content-Type": "text/plain; charset=utf-8"})


def address_of(context: Context, trigger: Trigger, token: str | None) -> str | None:
    """Return the address of a webhook. None for callers who may not see it, and for other kinds."""
    if token is None or not context.caller.may(SEE_WEBHOOK_ADDRESS, trigger.project_id):
        return None
    return f"{context.public_url}/hooks/{token}"


async def delivery_page(context: Context, trigger_id: str, arguments: PageArguments) -> Page[WebhookDelivery]:
    """Return a page of the requests that a webhook has received, newest first."""
    query = DeliveriesOfTrigger(trigger_id, arguments.checked(Prefix.WEBHOOK_DELIVERY))
    page = await context.loaders.webhook_deliveries.load(query)
    assert page is not None
    return page


async def rotate_token(context: Context, trigger_id: str, overlap_s: int) -> Trigger:
    """Give a webhook a new address. The present one works for `overlap_s` more seconds.

    Raises:
        NotFound, Forbidden: It is hidden, or the caller is no editor of its project.
        Invalid: The overlap is out of range.
        InvalidState: The trigger is no webhook.
    """
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        raise invalid("input.overlapS", "OUT_OF_RANGE", f"must be from 0 to {MAX_OVERLAP_S:,}")
    async with context.database.begin() as connection:
        trigger = await triggers.get(connection, context.caller, trigger_id, lock=True)
        require(context.caller, MUTATIONS["rotateWebhookToken"], trigger.project_id)
        if trigger.webhook_token is None:
            raise InvalidState(f"A trigger of the kind {trigger.kind!r} has no address.")
        after = {"overlapS": overlap_s}
        await record(connection, context.caller, "rotateWebhookToken", trigger.project_id, trigger_id, after=after)
        return await webhooks.rotate(connection, trigger_id, timedelta(seconds=overlap_s))


async def replay_delivery(context: Context, delivery_id: str, idempotency_key: str | None) -> Run:
    """Start a run for a stored request again, with the present config and the published version.

    Raises:
        InvalidState: Its signature was not valid, or no version is published.
        Invalid: The body cannot be read, or makes invalid inputs.
    """
    async with context.read() as connection:
        delivery = await webhooks.get(connection, context.caller, delivery_id)
        trigger = await triggers.get(connection, context.caller, delivery.trigger_id)
    require(context.caller, MUTATIONS["replayWebhookDelivery"], delivery.project_id)
    if delivery.verdict in _VERDICTS:
        raise InvalidState(f"The request was refused: {_VERDICTS[delivery.verdict]}.")
    try:
        _, config = config_of(installed_trigger_kinds(), trigger.kind, trigger.config)
        body = parse_body(config, delivery.message)
        event = event_of(delivery.message, delivery.message_id, body, delivery.received_at)
    except ValueError as error:  # A BadMessage, or a config that is not valid any more.
        raise invalid("input.id", "UNREADABLE", str(error)) from error
    return await run_trigger(context, trigger.id, event, idempotency_key, "replayWebhookDelivery")
