"""Deliveries as rows: list and resend. `outbox` sends them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.states import DeliveryStatus, EndpointEvent
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.pagination import Page, PageRange, group_by_parent, make_page, page_of_each
from persistence.db.tables import deliveries as table
from persistence.problems import InvalidState, NotFound


@dataclass(frozen=True, slots=True)
class Delivery:
    """One row of `deliveries`."""

    id: str
    project_id: str
    endpoint_id: str
    event: EndpointEvent
    subject_id: str
    payload: JSON
    status: DeliveryStatus
    attempts: int
    response_status: int | None
    error: str | None
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime


COLUMNS = [table.c[name] for name in Delivery.__slots__]


def _delivery_of(row: Mapping[Any, Any]) -> Delivery:
    return Delivery(**{**row, "event": EndpointEvent(row["event"]), "status": DeliveryStatus(row["status"])})


async def get(connection: AsyncConnection, caller: Caller, delivery_id: str) -> Delivery:
    """Read a delivery. Raises NotFound."""
    found = await get_many(connection, caller, [delivery_id])
    if delivery_id not in found:
        raise NotFound(delivery_id)
    return found[delivery_id]


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, Delivery]:
    """Read the deliveries that the caller may see, by id."""
    query = select(*COLUMNS).where(table.c.id.in_(ids), table.c.project_id.in_(caller.projects))
    return {row["id"]: _delivery_of(row) for row in (await connection.execute(query)).mappings()}


async def resend(connection: AsyncConnection, delivery_id: str) -> Delivery:
    """Begin a new series of attempts for a delivery that has ended. The message keeps its id.

    Raises:
        InvalidState: It is PENDING already.
    """
    changed = (
        update(table)
        .where(table.c.id == delivery_id, table.c.status != DeliveryStatus.PENDING)
        .values(
            status=DeliveryStatus.PENDING,
            attempts_before=table.c.attempts,
            next_attempt_at=func.now(),
            delivered_at=None,
        )
        .returning(*COLUMNS)
    )
    row = (await connection.execute(changed)).mappings().one_or_none()
    if row is None:
        raise InvalidState("The delivery is PENDING: it is sent without a request.")
    return _delivery_of(row)


@dataclass(frozen=True, slots=True)
class DeliveriesOfEndpoint:
    """A page of the deliveries of one endpoint, newest first; only those with a status if it is set."""

    endpoint_id: str
    range_: PageRange
    status: DeliveryStatus | None = None


async def pages(
    connection: AsyncConnection, caller: Caller, queries: Sequence[DeliveriesOfEndpoint]
) -> dict[DeliveriesOfEndpoint, Page[Delivery]]:
    """Read pages. Queries that differ only in the endpoint share a statement."""
    result: dict[DeliveriesOfEndpoint, Page[Delivery]] = {}
    for one, ids in group_by_parent(queries, "endpoint_id").items():
        query = select(*COLUMNS).where(table.c.project_id.in_(caller.projects))
        if one.status is not None:
            query = query.where(table.c.status == one.status)
        items: dict[str, list[Delivery]] = {id: [] for id in ids}
        rows = await connection.execute(page_of_each(query, table.c.endpoint_id, ids, one.range_))
        for row in rows.mappings():
            items[row["endpoint_id"]].append(_delivery_of(row))
        result |= {replace(one, endpoint_id=id): make_page(each, one.range_) for id, each in items.items()}
    return result
