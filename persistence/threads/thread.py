"""Threads as rows: pages of threads and of their messages, and their deletion.

A thread exists while it has had a message. Runs name it by its key, so a deletion takes nothing from
them: the next message makes the thread anew. Each deletion is one statement.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, delete, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Caller
from persistence.db.pagination import Page, PageRange, make_page
from persistence.db.tables import runs, thread_messages, threads
from persistence.problems import NotFound


@dataclass(frozen=True, slots=True)
class StoredThread:
    """One row of `threads`."""

    id: str
    project_id: str
    key: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One row of `thread_messages`."""

    thread_id: str
    number: int
    run_id: str
    node_id: str
    visit: int
    role: str
    content: str
    tokens: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MessageRange:
    """The newest `count` messages of a thread, or the newest ones before the number `before`."""

    thread_id: str
    count: int
    before: int | None = None


_COLUMNS = [threads.c[name] for name in StoredThread.__slots__]
_MESSAGE_COLUMNS = [thread_messages.c[name] for name in StoredMessage.__slots__]


def _visible(caller: Caller) -> Select[Any]:
    return select(*_COLUMNS).where(threads.c.project_id.in_(caller.projects))


async def get_many(connection: AsyncConnection, caller: Caller, ids: Sequence[str]) -> dict[str, StoredThread]:
    """Read the threads that the caller may see, by id."""
    rows = await connection.execute(_visible(caller).where(threads.c.id.in_(ids)))
    return {row["id"]: StoredThread(**row) for row in rows.mappings()}


async def by_key(connection: AsyncConnection, caller: Caller, project_id: str, key: str) -> StoredThread | None:
    """Read a thread by its key."""
    query = _visible(caller).where(threads.c.project_id == project_id, threads.c.key == key)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else StoredThread(**row)


async def page(
    connection: AsyncConnection, caller: Caller, range_: PageRange, projects: Sequence[str]
) -> Page[StoredThread]:
    """Read a page of the threads of some projects, newest first."""
    query = _visible(caller).where(threads.c.project_id.in_(projects))
    rows = (await connection.execute(range_.limited(query, threads.c.id))).mappings()
    return make_page([StoredThread(**row) for row in rows], range_)


async def messages(
    connection: AsyncConnection, caller: Caller, ranges: Sequence[MessageRange]
) -> dict[MessageRange, list[StoredMessage]]:
    """Read messages of threads, newest first. Ranges that differ only in the thread share a statement."""
    found: dict[MessageRange, list[StoredMessage]] = {one: [] for one in ranges}
    grouped = defaultdict[MessageRange, list[str]](list)
    for one in ranges:
        grouped[replace(one, thread_id="")].append(one.thread_id)
    for shared, ids in grouped.items():
        for row in await connection.execute(_last_of_each(caller, ids, shared)):
            found[replace(shared, thread_id=row.thread_id)].append(StoredMessage(**row._mapping))
    return found


def _last_of_each(caller: Caller, ids: Sequence[str], shared: MessageRange) -> Select[Any]:
    last = select(*_MESSAGE_COLUMNS).where(thread_messages.c.thread_id == threads.c.id)
    if shared.before is not None:
        last = last.where(thread_messages.c.number < shared.before)
    rows = last.order_by(thread_messages.c.number.desc()).limit(shared.count).lateral()
    query = select(*rows.c).select_from(threads.join(rows, true()))
    query = query.where(threads.c.id.in_(ids), threads.c.project_id.in_(caller.projects))
    return query.order_by(rows.c.thread_id, rows.c.number.desc())


async def lock(connection: AsyncConnection, caller: Caller, thread_id: str) -> StoredThread:
    """Read a thread and lock it until the transaction ends. Raises NotFound."""
    query = _visible(caller).where(threads.c.id == thread_id).with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(thread_id)
    return StoredThread(**row)


async def remove(connection: AsyncConnection, thread_id: str) -> None:
    """Delete a thread with its messages."""
    await connection.execute(delete(threads).where(threads.c.id == thread_id))


async def remove_after(connection: AsyncConnection, run_id: str, seq: int) -> None:
    """Delete the messages that a run has appended after one of its events: a rewind repeats the visits."""
    is_later = and_(thread_messages.c.run_id == run_id, thread_messages.c.run_seq > seq)
    await connection.execute(delete(thread_messages).where(is_later))


async def remove_attempts(connection: AsyncConnection, run_id: str) -> None:
    """Delete the messages of a run and of those that it retries: a new run takes their turn."""
    chain = select(runs.c.id, runs.c.retry_of_id).where(runs.c.id == run_id).cte("chain", recursive=True)
    earlier = select(runs.c.id, runs.c.retry_of_id).join(chain, runs.c.id == chain.c.retry_of_id)
    every = select(chain.union(earlier).c.id)
    await connection.execute(delete(thread_messages).where(thread_messages.c.run_id.in_(every)))
