"""Runs as rows: creation, commands, lists, node states, waits, and what belongs to a run.

Modules:
    admission: Concurrency limits of workflows: rejects a new run, or cancels the oldest one.
    children: Child runs: started by nodes, answered at their end, cancelled with their parent.
    commands: Start, cancel, pause, resume, set breakpoints.
    create: Inserts a run with its first event.
    idempotency: Idempotency keys of mutations.
    listing: Lists of runs, and the usual duration of a version's runs.
    map_items: `MapItemStore`, the finished items of `map` nodes.
    node_states: Reads node states and outputs, of the present and of any event.
    queue_limit: The number of queued runs that a project may have.
    related: Pages of derived runs, forks and checkpoints.
    run: `Run`, `RunOptions` and `CommandResult`; reads runs by id.
    run_filter: `RunFilter`, which runs a list has.
    run_order: `RunOrder`, the order of a list of runs, and its cursors.
    transition: Status changes in a transaction of the caller.
    waits: Reads and answers timers and questions.
"""
