"""Every metric of Treadle, in the text format of Prometheus.

No label has an id or a text of a user: their values come from enums, from the schema and from the
catalog, and `bounded` limits those that an author can choose. Nothing is counted for each node.
Servers show the metrics at /metrics, workers at the port TREADLE_METRICS_PORT. Nothing is stored: a
process that starts again begins at 0.
"""

from collections import defaultdict

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
"""The metrics of this process. Metrics of other libraries are not in it."""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

MAX_VALUES = 100
"""Values of one label that an author can choose. Further ones are counted as OTHER."""
MAX_LENGTH = 64
"""Characters of such a value."""
OTHER = "OTHER"
SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200)
_values: defaultdict[str, set[str]] = defaultdict(set)


def bounded(label: str, value: str) -> str:
    """Return a value that an author chose, or OTHER if there are too many, or it is too long."""
    known = _values[label]
    if value in known:
        return value
    if len(known) >= MAX_VALUES or len(value) > MAX_LENGTH:
        return OTHER
    known.add(value)
    return value


# Runs.
RUNS_FINISHED = Counter(
    "treadle_runs_finished_total",
    "Runs that ended, by status, source and error code. Counted by the process that ended them.",
    ("status", "source", "code"),
    registry=REGISTRY,
)
RUN_SECONDS = Histogram(
    "treadle_run_seconds",
    "Time from the first start of a run to its end, waits and pauses included.",
    ("status",),
    buckets=LONG_S,
    registry=REGISTRY,
)
RUN_QUEUED_SECONDS = Histogram(
    "treadle_run_queued_seconds",
    "Time that a run was QUEUED until a worker claimed it.",
    buckets=LONG_S,
    registry=REGISTRY,
)
RUN_EXECUTING_SECONDS = Histogram(
    "treadle_run_executing_seconds",
    "Time that a worker held a run after one claim.",
    buckets=LONG_S,
    registry=REGISTRY,
)
RUN_WAITING_SECONDS = Histogram(
    "treadle_run_waiting_seconds",
    "Time that a wait was open: a timer, a question, a child run or the pause before a retry.",
    ("kind",),
    buckets=LONG_S,
    registry=REGISTRY,
)
RUNS_ACTIVE = Gauge(
    "treadle_runs_active",
    "Runs that have not ended, by status, in the whole database. Servers only.",
    ("status",),
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("treadle_queue_depth", "QUEUED runs in the whole database. Servers only.", registry=REGISTRY)
QUEUE_OLDEST_SECONDS = Gauge(
    "treadle_queue_oldest_seconds", "Age of the run that is QUEUED for longest. Servers only.", registry=REGISTRY
)
TRIGGER_LAG_SECONDS = Gauge(
    "treadle_trigger_lag_seconds",
    "Time for which the first of the due triggers has been due. Servers only.",
    registry=REGISTRY,
)
KEPT_EVENTS = Gauge(
    "treadle_kept_events", "Events from outside that no run has waited for yet. Servers only.", registry=REGISTRY
)
DELIVERIES_PENDING = Gauge(
    "treadle_deliveries_pending", "Messages to endpoints that are not delivered yet. Servers only.", registry=REGISTRY
)

# Workers.
WORKERS_LIVE = Gauge("treadle_workers_live", "Workers that are alive. Servers only.", registry=REGISTRY)
WORKER_SLOTS = Gauge("treadle_worker_slots", "Runs that this worker can execute at once.", registry=REGISTRY)
WORKER_SLOTS_USED = Gauge("treadle_worker_slots_used", "Runs that this worker holds now.", registry=REGISTRY)
LEASES_LOST = Counter(
    "treadle_leases_lost_total", "Runs that this worker had to drop: their lease was lost.", registry=REGISTRY
)
RUNS_RESCUED = Counter(
    "treadle_runs_rescued_total",
    "Runs whose worker was lost, by the status that this worker gave them.",
    ("status",),
    registry=REGISTRY,
)
WORKERS_LOST = Counter("treadle_workers_lost_total", "Workers that this one found dead.", registry=REGISTRY)
JOURNAL_COMMIT_SECONDS = Histogram(
    "treadle_journal_commit_seconds", "Duration of one commit of the journal.", buckets=SHORT_S, registry=REGISTRY
)
JOURNAL_GROUP_RUNS = Histogram(
    "treadle_journal_group_runs", "Runs in one commit of the journal.", buckets=SIZES, registry=REGISTRY
)
DELIVERY_ATTEMPTS = Counter(
    "treadle_delivery_attempts_total",
    "Attempts to deliver a message to an endpoint, by result (delivered, repeated, failed).",
    ("result",),
    registry=REGISTRY,
)
ALERT_CHANGES = Counter(
    "treadle_alert_changes_total", "Changes of alert rules, by new state (FIRING, OK).", ("state",), registry=REGISTRY
)
ANALYTICS_EVENTS = Counter(
    "treadle_analytics_events_total",
    "Analytics events, by receiver (stream, or the name of a sink) and result (sent, failed, dropped).",
    ("receiver", "result"),
    registry=REGISTRY,
)
SANDBOXES = Gauge(
    "treadle_sandboxes", "Sandboxes of this process, by state (busy, idle).", ("state",), registry=REGISTRY
)
SANDBOX_WAITING = Gauge("treadle_sandbox_waiting", "Code nodes that wait for a sandbox.", registry=REGISTRY)

# Models.
MODEL_TOKENS = Counter(
    "treadle_model_tokens_total",
    "Tokens of model calls, by model of the catalog and kind (input, output).",
    ("model", "kind"),
    registry=REGISTRY,
)
MODEL_COST_USD = Counter(
    "treadle_model_cost_usd_total", "Cost of model calls with a known price, in USD.", ("model",), registry=REGISTRY
)
MODEL_CALL_SECONDS = Histogram(
    "treadle_model_call_seconds",
    "Duration of model calls, by model and error code (empty: none).",
    ("model", "code"),
    buckets=LONG_S,
    registry=REGISTRY,
)

# The API.
GRAPHQL_OPERATIONS = Counter(
    "treadle_graphql_operations_total",
    "Operations that ended, by type, first root field and outcome (ok, error).",
    ("type", "field", "outcome"),
    registry=REGISTRY,
)
GRAPHQL_SECONDS = Histogram(
    "treadle_graphql_operation_seconds",
    "Duration of queries and mutations, by type.",
    ("type",),
    buckets=SHORT_S,
    registry=REGISTRY,
)
SUBSCRIPTIONS = Gauge("treadle_subscriptions", "Subscriptions that are open.", ("field",), registry=REGISTRY)
CONNECTIONS = Gauge(
    "treadle_connections",
    "Connections that are open, by kind: websocket, or http for a request in progress.",
    ("kind",),
    registry=REGISTRY,
)

# Stores.
DATABASE_CONNECTIONS = Gauge(
    "treadle_database_connections",
    "Connections of the pools to Postgres, by pool (queries, hot, lifeline) and state (busy, idle).",
    ("pool", "state"),
    registry=REGISTRY,
)
REDIS_CONNECTIONS = Gauge(
    "treadle_redis_connections",
    "Connections of the pools to Redis, by pool (commands, arq) and state (busy, idle).",
    ("pool", "state"),
    registry=REGISTRY,
)
