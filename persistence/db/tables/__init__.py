"""All tables, as SQLAlchemy Core.

Rows of a run belong to its project through `runs`; other rows have a `project_id`.

JSON is stored as Postgres `json`: verbatim, never queried inside, cheaper to write than `jsonb`.
The predicates of the indexes are the ones in the migrations, which are the source of the schema.

Modules:
    alerts: Alert rules and their counters.
    analytics: Analytics events that are not published yet.
    access: Secrets, API keys, sessions of browsers, the audit log and idempotency keys of callers.
    bulk_jobs: Bulk operations on runs.
    base: The metadata, the types of ids and times, and columns that refer to other tables.
    endpoints: Endpoints of other systems, and the deliveries to them.
    histories: What happens in runs: events, states and outputs of nodes, checkpoints.
    processes: Worker processes.
    runs: Runs, their waits, items of maps, and idempotency keys.
    signals: Events from outside.
    statistics: Ended runs, and their counters by hour and day.
    threads: Conversations and their messages.
    triggers: Triggers, their events, pending firings and deliveries of webhooks.
    workflows: Projects, workflows, exposures, drafts and versions.
"""

from persistence.db.tables.access import api_keys, audit_log, browser_sessions, mutation_keys, secrets
from persistence.db.tables.alerts import alert_rules, alert_sums
from persistence.db.tables.analytics import analytics_events
from persistence.db.tables.base import Id, Moment, metadata
from persistence.db.tables.bulk_jobs import bulk_jobs
from persistence.db.tables.endpoints import deliveries, endpoints
from persistence.db.tables.histories import checkpoints, events, node_outputs, node_states, pending_writes
from persistence.db.tables.processes import worker_heartbeats, workers
from persistence.db.tables.runs import idempotency_keys, map_items, runs, waits
from persistence.db.tables.signals import signals
from persistence.db.tables.statistics import run_ends, run_sums
from persistence.db.tables.threads import thread_messages, threads
from persistence.db.tables.triggers import pending_firings, trigger_events, triggers, webhook_deliveries
from persistence.db.tables.workflows import drafts, exposures, projects, versions, workflows

__all__ = [
    "Id",
    "Moment",
    "alert_rules",
    "alert_sums",
    "analytics_events",
    "api_keys",
    "audit_log",
    "browser_sessions",
    "bulk_jobs",
    "checkpoints",
    "deliveries",
    "drafts",
    "endpoints",
    "events",
    "exposures",
    "idempotency_keys",
    "map_items",
    "metadata",
    "mutation_keys",
    "node_outputs",
    "node_states",
    "pending_firings",
    "pending_writes",
    "projects",
    "run_ends",
    "run_sums",
    "runs",
    "secrets",
    "signals",
    "thread_messages",
    "threads",
    "trigger_events",
    "triggers",
    "versions",
    "waits",
    "webhook_deliveries",
    "worker_heartbeats",
    "workers",
    "workflows",
]
