"""The stores: everything that Treadle keeps in Postgres and publishes to Redis.

Postgres is the source of truth. Redis carries wake-up signals and the live feed: losing it delays
readers and workers, and loses no data. Layers, lowest first: caller and problems; db; mutation_keys;
audit_log, events, secrets and sql_databases; journal and workflows; runs; analytics, bulk_jobs, checkpoints, feed,
notifications, queue, statistics and triggers;
alerts and maintenance.

Modules:
    audit_log: Who changed what, written in the transaction of the change.
    caller: `Caller`, the subject of a request and its role in each project.
    mutation_keys: Idempotency keys of mutations that start no run.
    problems: The exceptions of the domain, with the members of an RFC 9457 problem.
    sql_databases: Databases of third parties that the `sql` tool queries.

Packages:
    alerts: Alert rules, and their evaluation.
    analytics: Analytics events for streams and sinks, by an outbox.
    bulk_jobs: Cancel, retry or delete many runs, batch by batch.
    checkpoints: Checkpoints of LangGraph: saving, loading and copying them.
    db: Connection pools, tables, migrations and error classification.
    events: Encoding, publishing and reading of a run's events.
    feed: The live event feed for subscribers.
    journal: Group commit of what workers' runs did.
    maintenance: Rescue of lost runs, timers, worker presence and retention.
    migrations: Alembic's migrations of the schema.
    notifications: Endpoints of other systems, and the outbox of deliveries to them.
    queue: Claims and leases of runs, and notifications of workers.
    signals: Events that systems outside send to runs, and the waits that they end.
    runs: Runs as rows: creation, commands, lists, node states and waits.
    secrets: Encrypted secrets of projects and the keys that encrypt them.
    statistics: Statistics of ended runs, counted as they end and summed up by hour and day.
    threads: Conversations of runs, and their messages.
    triggers: Triggers as rows, the record of their firings, and the claim of those that are due.
    workflows: Projects, workflows, drafts and versions.
"""
