"""Background maintenance of runs in Postgres, done by every worker at once.

Modules:
    backlog: Due triggers, kept events and pending deliveries, for metrics.
    partitioning: Creates partitions of histories ahead, and drops the expired ones.
    presence: Which worker processes are alive, by advisory locks.
    queue_facts: What QUEUED runs wait for.
    rescue: Runs whose worker is gone.
    retention: Deletes old runs, their history and used idempotency keys.
    timers: Wakes waiting runs, and ends runs past a deadline.
"""
