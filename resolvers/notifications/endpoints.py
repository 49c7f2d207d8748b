"""Endpoints and deliveries: editors create, change and delete endpoints and resend; viewers read.

Each change is one transaction, with its entry in the audit log. Workers are notified after its commit.
If the notification is lost, they find the change within seconds.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.errors import NodeFailure
from engine.nodes.http import request
from engine.nodes.http.visible_address import origin_of
from engine.problems import FieldProblem
from engine.states import DeliveryStatus, EndpointEvent
from persistence.audit_log import record
from persistence.db.ids import Prefix
from persistence.db.pagination import Page, PageArguments
from persistence.notifications import delivery as deliveries
from persistence.notifications import endpoint as endpoints
from persistence.notifications.delivery import DeliveriesOfEndpoint, Delivery
from persistence.notifications.endpoint import NotificationEndpoint
from persistence.problems import Invalid
from persistence.secrets import store as secrets
from resolvers.authorise import project_for, require
from resolvers.checks import checked_description, hidden_character, tag_problems
from resolvers.context import Context
from resolvers.notifications.checks import workflow_problems
from resolvers.permissions import MUTATIONS, QUERIES, SEE_ENDPOINT_ADDRESS

MAX_URL = 2000
_AUDITED = ("description", "events", "workflow_ids", "tags", "secret", "enabled")
"""What the audit log shows of an endpoint, beside the origin of its address."""


async def endpoints_of(context: Context, project_id: str | None) -> list[NotificationEndpoint]:
    """List the endpoints of a project, newest first; None for all projects of the caller. Raises NotFound."""
    if project_id is not None:
        require(context.caller, QUERIES["endpoints"], project_id)
    chosen = context.caller.projects if project_id is None else [project_id]
    async with context.read() as connection:
        return await endpoints.of_projects(connection, context.caller, chosen)


async def create_endpoint(context: Context, project_id: str | None, values: Mapping[str, Any]) -> NotificationEndpoint:
    """Create an endpoint; `values` has a value for each of its columns that callers set.

    Raises:
        NotFound, Forbidden: The caller has no role in the project, or a lower one than editor.
        Invalid: With all problems of the values.
        Limit: The project has too many endpoints.
    """
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, MUTATIONS["createEndpoint"], project_id)
        await _check(connection, context, chosen, values)
        created = await endpoints.create(connection, context.caller, chosen, values)
        await _record(connection, context, "createEndpoint", created, after=created)
    await context.notifier.notify_triggers()
    return created


async def update_endpoint(context: Context, endpoint_id: str, changes: Mapping[str, Any]) -> NotificationEndpoint:
    """Change an endpoint; `changes` has the columns to change. Enabling clears its failures.

    Raises:
        NotFound, Forbidden: It is hidden, or the caller is no editor of its project.
        Invalid: With all problems of the new values.
    """
    async with context.database.begin() as connection:
        before = await endpoints.get(connection, context.caller, endpoint_id, lock=True)
        require(context.caller, MUTATIONS["updateEndpoint"], before.project_id)
        await _check(connection, context, before.project_id, changes)
        values = dict(changes)
        if values.get("enabled") or "url" in values or "secret" in values:
            values |= {"failing_since": None, "last_error": None}
        changed = await endpoints.change(connection, endpoint_id, values) if values else before
        if values:
            await _record(connection, context, "updateEndpoint", before, before=before, after=changed)
    await context.notifier.notify_triggers()
    return changed


async def delete_endpoint(context: Context, endpoint_id: str) -> str:
    """Delete an endpoint with its deliveries, and return its id. Raises NotFound, Forbidden."""
    async with context.database.begin() as connection:
        endpoint = await endpoints.get(connection, context.caller, endpoint_id, lock=True)
        require(context.caller, MUTATIONS["deleteEndpoint"], endpoint.project_id)
        await endpoints.remove(connection, endpoint_id)
        await _record(connection, context, "deleteEndpoint", endpoint, before=endpoint)
    return endpoint_id


async def resend_delivery(context: Context, delivery_id: str) -> Delivery:
    """Send a delivery that has ended again, with a new series of attempts.

    Raises:
        NotFound, Forbidden: It is hidden, or the caller is no editor of its project.
        InvalidState: It is PENDING.
    """
    async with context.database.begin() as connection:
        delivery = await deliveries.get(connection, context.caller, delivery_id)
        require(context.caller, MUTATIONS["resendDelivery"], delivery.project_id)
        changed = await deliveries.resend(connection, delivery_id)
        states = [{"status": one.status, "attempts": one.attempts} for one in (delivery, changed)]
        await record(
            connection,
            context.caller,
            "resendDelivery",
            delivery.project_id,
            delivery_id,
            before=states[0],
            after=states[1],
        )
    await context.notifier.notify_triggers()
    return changed


async def delivery_page(
    context: Context, endpoint_id: str, status: DeliveryStatus | None, arguments: PageArguments
) -> Page[Delivery]:
    """Return a page of the deliveries of an endpoint, newest first."""
    query = DeliveriesOfEndpoint(endpoint_id, arguments.checked(Prefix.DELIVERY), status)
    page = await context.loaders.deliveries.load(query)
    assert page is not None
    return page


def address_of(context: Context, endpoint: NotificationEndpoint) -> str:
    """Return the address of an endpoint; for viewers and runners without its path, which may be a credential."""
    if context.caller.may(SEE_ENDPOINT_ADDRESS, endpoint.project_id):
        return endpoint.url
    return f"{origin_of(endpoint.url)}/•••"


async def _record(
    connection: AsyncConnection,
    context: Context,
    action: str,
    endpoint: NotificationEndpoint,
    *,
    before: NotificationEndpoint | None = None,
    after: NotificationEndpoint | None = None,
) -> None:
    values = [None if one is None else _audited(one) for one in (before, after)]
    await record(
        connection, context.caller, action, endpoint.project_id, endpoint.id, before=values[0], after=values[1]
    )


def _audited(endpoint: NotificationEndpoint) -> dict[str, Any]:
    return {"url": origin_of(endpoint.url), **{name: getattr(endpoint, name) for name in _AUDITED}}


async def _check(connection: AsyncConnection, context: Context, project_id: str, values: Mapping[str, Any]) -> None:
    """Check the values that are set. Raises Invalid with all problems."""
    problems = [*_plain_problems(values)]
    if "workflow_ids" in values:
        problems += await workflow_problems(connection, context, project_id, values["workflow_ids"])
    if "secret" in values:
        found = await secrets.list_by_name(connection, context.caller, [project_id])
        if values["secret"] not in {one.name for one in found}:
            # The message does not quote the name: the caller may have put the key itself into the field.
            message = "is not the name of a secret of the project: create one with setSecret"
            problems.append(FieldProblem("input.secret", "UNKNOWN", message))
    if problems:
        raise Invalid(problems)


def _plain_problems(values: Mapping[str, Any]) -> Iterator[FieldProblem]:
    if "url" in values:
        yield from _url_problems(values["url"])
    if "description" in values:
        try:
            checked_description("input.description", values["description"])
        except Invalid as error:
            yield from error.errors
    if "events" in values and not values["events"]:
        names = ", ".join(EndpointEvent)
        yield FieldProblem("input.events", "LENGTH", f"must name at least one event: {names}")
    yield from tag_problems("input.tags", values.get("tags", ()))


def _url_problems(url: str) -> Iterator[FieldProblem]:
    if len(url) > MAX_URL:
        yield FieldProblem("input.url", "LENGTH", f"must have at most {MAX_URL:,} characters, has {len(url):,}")
        return
    if (message := hidden_character(url)) is not None:
        yield FieldProblem("input.url", "FORMAT", message)
        return
    try:
        request.address(url, {})
        origin_of(url)  # It refuses hosts such as `[`.
    except (NodeFailure, ValueError):
        message = "must be an address that begins with http:// or https://, without a name or password"
        yield FieldProblem("input.url", "URL", message)
