"""Events of runs: their encoding, their publication to Redis, and their history in Postgres.

Modules:
    codec: Encodes events and node states for rows and for stream entries, and decodes them.
    history: Reads pages of events, and checkpoints.
    publisher: Publishes committed events and status changes to Redis.
    run_transition: `RunTransition`, one status change of one run.
    steps: The steps of stored checkpoints, and the ids of the checkpoints derived from them.
"""
