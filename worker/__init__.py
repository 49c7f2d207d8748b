"""The worker process: claims runs from the queue in Postgres and executes them.

Modules:
    deliveries: Sends messages to endpoints.
    gc_tuning: Tunes the garbage collector for a long-lived process.
    heartbeat: Renews leases and reads intents.
    lease_clock: The clock of leases.
    listener: Handles notifications that arrive over Redis.
    main: Assembles and runs the process.
    metrics: Serves the metrics of the worker.
    presence: Keeps the worker registered as alive.
    recovery: Finds dead workers, expired leases, due timers and passed deadlines.
    resource_options: Translates settings into the options of resources.
    retention: Deletes old data from time to time.
    run_task: Executes one claimed run.
    runner: Claims runs, holds them and drains them.
    statistics: Sums up the statistics of ended runs, and evaluates alert rules.
    triggers: Fires the triggers that are due.
    watchdog: Stops runs before their leases expire.
"""
