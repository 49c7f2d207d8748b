"""The queue of runs in Postgres: claims, leases, and notifications over Redis.

Modules:
    arq_pool: The connections of arq, with JSON as the format of jobs.
    arq_worker: arq's worker, whose only job requests a poll of the queue.
    claims: Claims QUEUED runs for a worker, in a fair order.
    depth: Counts active and queued runs.
    leases: Renews leases, and reads the intents of leased runs.
    notifier: Notifies workers of queued runs and of new intents.
"""
