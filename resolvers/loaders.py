"""Data loaders: batch the reads that several fields of one operation need into one SQL statement.

Nothing is cached between batches: the context of a WebSocket lives long, and rows change. Every
loader returns only what its caller may see, because the queries in `persistence` check it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.dataloader import DataLoader

from persistence import audit_log
from persistence.alerts import rule as alert_rules
from persistence.bulk_jobs import job as bulk_jobs
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.pagination import totals
from persistence.events import history
from persistence.maintenance import queue_facts
from persistence.notifications import delivery as messages
from persistence.notifications import endpoint as endpoints
from persistence.runs import listing, related, waits
from persistence.runs import node_states as nodes
from persistence.runs import run as runs
from persistence.runs.waits import answerable
from persistence.secrets import store as secrets
from persistence.signals import signal as signals
from persistence.threads import thread as threads
from persistence.triggers import events as firings
from persistence.triggers import trigger as triggers
from persistence.triggers import webhooks
from persistence.workflows import api_keys, drafts, exposures, projects, versions, workflows
from resolvers.read_ahead import current_batch

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")
MAX_BATCH = 250
"""Keys of one statement. The fields that wait for them go on in one pass of the event loop."""
MAX_STATEMENTS = 4
"""Statements of one context at a time, so that one operation does not take all connections."""
LARGE = ("values", "outputs_at")
"""Loaders of large values, which are not kept for a batch of updates."""
Query = Callable[[AsyncConnection, Caller, Sequence[KeyT]], Awaitable[Mapping[KeyT, ValueT]]]
"""Reads many keys in one statement; the mapping lacks keys that do not exist or are hidden."""


class BatchLoader(DataLoader[KeyT, ValueT]):
    """A data loader that reads each key once for a batch of updates of a subscription."""

    name = ""

    def load(self, key: KeyT) -> Awaitable[ValueT]:
        batch = current_batch.get()
        return self.load_now(key) if batch is None or self.name in LARGE else batch.load(self, key)

    def load_now(self, key: KeyT) -> asyncio.Future[Any]:
        """Load without the batch of the current update."""
        return cast("asyncio.Future[Any]", super().load(key))


class _Loader(Generic[KeyT, ValueT]):
    """A descriptor that creates its loader at the first use: an operation needs only a few."""

    def __init__(self, query: Query[KeyT, ValueT]) -> None:
        self._query = query

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, loaders: "Loaders", _: type) -> DataLoader[KeyT, ValueT | None]:
        loader: BatchLoader[KeyT, ValueT | None] = BatchLoader(
            load_fn=loaders.batch_function(self._query), max_batch_size=MAX_BATCH, cache=False
        )
        loader.name = self._name
        vars(loaders)[self._name] = loader  # An instance attribute precedes this descriptor.
        return loader


class Loaders:
    """All loaders of one context.

    `load(key)` returns None if the object does not exist or is hidden.
    """

    api_key = _Loader(api_keys.get_many)
    bulk_job = _Loader(bulk_jobs.get_many)
    audit_entry = _Loader(audit_log.get_many)
    secret = _Loader(secrets.get_many)
    project = _Loader(projects.get_many)
    workflow = _Loader(workflows.get_many)
    draft = _Loader(drafts.get_many)
    exposure = _Loader(exposures.get_many)
    version = _Loader(versions.get_many)
    published = _Loader(versions.get_published)
    by_content = _Loader(versions.get_by_content)
    by_number = _Loader(versions.get_by_number)
    versions = _Loader(versions.get_pages)
    run = _Loader(runs.get_many)
    runs = _Loader(listing.pages)
    total = _Loader(totals)
    median_duration = _Loader(listing.median_durations)
    graphs = _Loader(nodes.graphs)
    node_states = _Loader(nodes.states)
    current_states = _Loader(nodes.current_states)
    node_states_at = _Loader(nodes.states_at)
    outputs_at = _Loader(nodes.all_outputs_at)
    values = _Loader(nodes.values)
    events = _Loader(history.event_pages)
    checkpoint = _Loader(history.checkpoints_by_id)
    has_checkpoint = _Loader(history.runs_with_checkpoints)
    checkpoints = _Loader(related.checkpoints_of)
    derived = _Loader(related.derived_runs)
    forks = _Loader(related.forks)
    waits = _Loader(waits.of_runs)
    may_answer = _Loader(answerable)
    queue_facts = _Loader(queue_facts.of_runs)
    signal = _Loader(signals.get_many)
    signals = _Loader(signals.pages)
    trigger = _Loader(triggers.get_many)
    triggers = _Loader(triggers.pages)
    trigger_event = _Loader(firings.get_many)
    trigger_events = _Loader(firings.pages)
    webhook_delivery = _Loader(webhooks.get_many)
    webhook_deliveries = _Loader(webhooks.pages)
    alert_rule = _Loader(alert_rules.get_many)
    thread = _Loader(threads.get_many)
    thread_messages = _Loader(threads.messages)
    endpoint = _Loader(endpoints.get_many)
    delivery = _Loader(messages.get_many)
    deliveries = _Loader(messages.pages)
    trigger_event_of_run = _Loader(firings.of_runs)

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database, self._caller = database, caller
        self._statements = asyncio.Semaphore(MAX_STATEMENTS)

    def batch_function(self, query: Query[KeyT, ValueT]) -> Callable[[list[KeyT]], Awaitable[list[ValueT | None]]]:
        """Return the `load_fn` of a DataLoader: it reads many keys in one statement."""

        async def load(keys: list[KeyT]) -> list[ValueT | None]:
            async with self._statements, self._database.read(self._caller.projects) as connection:
                values = await query(connection, self._caller, list(dict.fromkeys(keys)))
            return [values.get(key) for key in keys]

        return load
