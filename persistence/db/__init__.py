"""The database: connections, tables, migrations, ids, pagination, and its errors.

Modules:
    advisory_locks: `AdvisoryLock`, the keys of advisory locks.
    barrier: `Barrier`, row-level security for the reads of callers.
    clock_skew: `ClockSkew`, the difference between the host's and the database's clock.
    database: `Database`, the connection pools of a process.
    deadlines: `Deadlines`, the configured time limits of run statuses.
    ids: TypeIDs: making and parsing them.
    json_text: JSON values that are read with their row, or by themselves.
    migrate: Applies the migrations.
    outage: `Outage`, logs the begin and the end of a store's outage.
    online_steps: `prepare`, what a migration does before its transaction.
    pagination: Keyset pagination and cursors.
    partitions: The partitions of the tables of histories.
    response_budget: `ResponseBudget`, how many objects and bytes one response may have.
    sql_messages: Own sentences for the errors of the databases that tools query.
    pool_metrics: Shows the connections of the pools in the metrics.
    tables: All tables, as SQLAlchemy Core.
    transient: Classifies errors and retries the transient ones.
"""
