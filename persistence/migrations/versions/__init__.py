"""The revisions of the schema, one module each, applied in the order of their numbers.

Modules:
    0001_the_first_tables: The first tables, and the project `default`.
    0002_control_and_recovery: Waits, concurrency keys, lineages and the presence of workers.
    0003_what_nodes_reach: Secrets, usage of models, scopes, child runs and items of maps.
    0004_what_lists_and_maps_ask: Indexes for lists, and the digest of an item of a map.
    0005_progress_ports_and_layouts: Exact progress, ports and edges of nodes, layouts of versions.
    0006_thinking_and_finish_reasons: The thinking of models, and why their answers ended.
    0007_steps_of_checkpoints: The steps of checkpoints.
    0008_api_keys: API keys.
    0009_worker_heartbeats: The signs of life of workers without a visible lock.
    0010_triggers: Triggers, their events, pending firings, and the trigger of a run.
    0011_webhooks: The tokens of webhooks, and their deliveries.
    0012_run_finished: The firing of triggers by the end of a run.
    0013_history_without_foreign_keys: A trigger deletes the history of a run, instead of foreign keys.
    0014_tags: Tags of runs, and the indexes of filters.
    0015_audit_log: The audit log, and the trigger that protects it.
    0016_answerers: Who may answer a question of a run.
    0017_signals: Events that are sent to runs, and the waits for them.
    0018_partitions_of_histories: Partitions of events, outputs and checkpoints.
    0019_browser_sessions: The sign-in sessions of browsers.
    0020_lists_in_order_and_search: The indexes of lists by end and duration, and of the search of errors.
    0021_notifications: Endpoints, the outbox of deliveries to them, and the triggers that fill it.
    0022_stored_bytes: The number of bytes that a run has stored.
    0023_statistics: The ends of runs and their sums, and the trigger that counts them.
    0024_trial_versions: Trial versions without a number, and the name and note of versions.
    0025_mutation_keys: Idempotency keys of mutations that start no run.
    0026_bulk_jobs: Jobs that cancel, retry or delete many runs.
    0027_alert_rules: Alert rules, their counters, and the trigger that reports their changes of state.
    0028_indexes_of_ended_runs: Indexes of ended and of idle runs instead of indexes by every status.
    0029_row_level_security: Policies for the reads of callers.
    0030_analytics: The outbox of analytics events, and the triggers that fill it.
    0031_sums_of_months: Sums of months in the statistics, and the triggers that open them.
    0032_exposures: The names by which other systems and agents run workflows.
    0033_threads: Threads of conversations and their messages.
"""
