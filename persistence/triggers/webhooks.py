"""Webhooks as rows: the tokens of their addresses, and the requests that they have received.

A request is stored in a transaction of its own before it is parsed, so whatever happens to it
afterwards, it can be read and replayed.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.triggers.webhook import HIDDEN_HEADERS, SignatureVerdict, WebhookMessage
from persistence.caller import Caller
from persistence.db.pagination import Page, PageRange, group_by_parent, make_page, page_of_each
from persistence.db.tables import triggers
from persistence.db.tables import webhook_deliveries as table
from persistence.problems import NotFound
from persistence.triggers.trigger import COLUMNS, Trigger, trigger_of

KIND = "webhook"


_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""The form of all tokens. Text of another form, such as a NUL, is not sent to the database."""


def new_token() -> str:
    """Make a token of an address: 256 random bits."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class FoundWebhook:
    """The trigger that a token belongs to."""

    trigger: Trigger
    is_test: bool
    version_id: str | None
    """The version that is published now."""
    now: datetime


async def find(pool: asyncpg.Pool, token: str) -> FoundWebhook | None:
    """Find a webhook by a token: the present one, the previous one for a while, or that of the test address."""
    row = await pool.fetchrow(_FIND, token) if _TOKEN.fullmatch(token) else None
    if row is None:
        return None
    return FoundWebhook(trigger_of(dict(row)), row["is_test"], row["version_id"], row["now"])


async def rotate(connection: AsyncConnection, trigger_id: str, overlap: timedelta) -> Trigger:
    """Give a webhook that this transaction has locked a new token. The present one works for `overlap`."""
    columns = triggers.c
    changed = (
        update(triggers)
        .where(columns.id == trigger_id)
        .values(
            webhook_token=new_token(),
            test_token=new_token(),
            previous_token=columns.webhook_token,
            previous_until=func.now() + overlap,
            updated_at=func.clock_timestamp(),
        )
        .returning(*COLUMNS)
    )
    return trigger_of((await connection.execute(changed)).mappings().one())


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One row of `webhook_deliveries`."""

    id: str
    project_id: str
    trigger_id: str
    event_id: str | None
    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    address: str | None
    verdict: SignatureVerdict
    message_id: str | None
    is_test: bool
    received_at: datetime

    @property
    def message(self) -> WebhookMessage:
        return WebhookMessage(self.method, self.headers, self.query, self.body)


def _delivery_of(row: Mapping[Any, Any]) -> WebhookDelivery:
    return WebhookDelivery(**{**row, "verdict": SignatureVerdict(row["verdict"])})


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A request to store, for the webhook that was found by its address."""

    id: str
    found: FoundWebhook
    message: WebhookMessage
    address: str | None
    verdict: SignatureVerdict
    message_id: str | None


async def store(pool: asyncpg.Pool, requests: Sequence[NewDelivery]) -> None:
    """Store requests, all or none. Headers with credentials are left out."""
    rows = [
        (
            new.id,
            new.found.trigger.project_id,
            new.found.trigger.id,
            new.message.method,
            {name: value for name, value in new.message.headers.items() if name not in HIDDEN_HEADERS},
            dict(new.message.query),
            new.message.body,
            new.address,
            new.verdict.value,
            new.message_id,
            new.found.is_test,
        )
        for new in requests
    ]
    await pool.executemany(_STORE, rows)


async def link(connection: AsyncConnection, pairs: Sequence[tuple[str, str]]) -> None:
    """Note the events of deliveries: pairs of the ids of a delivery and of its event."""
    if pairs:
        await connection.exec_driver_sql(_LINK, tuple(list(column) for column in zip(*pairs, strict=True)))


async def note_result(connection: AsyncConnection, trigger_id: str, error: str | None) -> None:
    """Note the result of a firing in the trigger: the time, and the error or none.

    A success is noted once a second at most, so that requests do not wait for each other's commits.
    Failures are not counted: the sender causes most of them, and must not disable the trigger.
    """
    if error is not None:
        await connection.execute(update(triggers).where(triggers.c.id == trigger_id).values(last_error=error))
        return
    await connection.exec_driver_sql(_NOTE_SUCCESS, (trigger_id,))


async def get(connection: AsyncConnection, caller: Caller, delivery_id: str) -> WebhookDelivery:
    """Read a delivery. Raises NotFound."""
    found = await get_many(connection, caller, [delivery_id])
    if delivery_id not in found:
        raise NotFound(delivery_id)
    return found[delivery_id]


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, WebhookDelivery]:
    """Read the deliveries that the caller may see, by id."""
    query = select(table).where(table.c.id.in_(ids), table.c.project_id.in_(caller.projects))
    return {row["id"]: _delivery_of(row) for row in (await connection.execute(query)).mappings()}


@dataclass(frozen=True, slots=True)
class DeliveriesOfTrigger:
    """A page of the deliveries of one webhook, newest first."""

    trigger_id: str
    range_: PageRange


async def pages(
    connection: AsyncConnection, caller: Caller, queries: Sequence[DeliveriesOfTrigger]
) -> dict[DeliveriesOfTrigger, Page[WebhookDelivery]]:
    """Read pages. Queries that differ only in the trigger share a statement."""
    result: dict[DeliveriesOfTrigger, Page[WebhookDelivery]] = {}
    for one, ids in group_by_parent(queries, "trigger_id").items():
        query = select(table).where(table.c.project_id.in_(caller.projects))
        items: dict[str, list[WebhookDelivery]] = {id: [] for id in ids}
        rows = await connection.execute(page_of_each(query, table.c.trigger_id, ids, one.range_))
        for row in rows.mappings():
            items[row["trigger_id"]].append(_delivery_of(row))
        result |= {replace(one, trigger_id=id): make_page(each, one.range_) for id, each in items.items()}
    return result


_TRIGGER = ", ".join(f"t.{column.name}" for column in COLUMNS)
_FIND = f"""
SELECT {_TRIGGER}, now() AS now, coalesce(t.test_token = $1, false) AS is_test,
    (SELECT v.id FROM versions v WHERE v.workflow_id = t.workflow_id AND v.status = 'PUBLISHED') AS version_id
FROM triggers t
WHERE t.webhook_token = $1 OR t.test_token = $1 OR (t.previous_token = $1 AND t.previous_until > now())
"""
_STORE = """
INSERT INTO webhook_deliveries
    (id, project_id, trigger_id, method, headers, query, body, address, verdict, message_id, is_test)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
_LINK = """
UPDATE webhook_deliveries d SET event_id = p.event_id FROM unnest($1::text[], $2::text[]) AS p(id, event_id)
WHERE d.id = p.id
"""
# SKIP LOCKED: another request notes the same.
_NOTE_SUCCESS = """
UPDATE triggers SET last_fired_at = now(), last_error = NULL, failures = 0 WHERE id IN (
    SELECT id FROM triggers WHERE id = $1
        AND (last_error IS NOT NULL OR last_fired_at IS NULL OR last_fired_at < now() - interval '1 second')
    FOR NO KEY UPDATE SKIP LOCKED
)
"""
