"""The execution of one claimed run in memory, and the interfaces that it requires from storage.

Modules:
    attempts: Retries, backoff and timeout of one visit of a node.
    commit_buffer: Collects changes and passes them to the journal as entries.
    executor: Executes one claimed run.
    memory_checkpointer: The checkpoint saver of a run in memory.
    node_context: The context of one visit: template scope and redacted reports.
    outcome: The status change that ends or releases a run.
    ports: The interfaces of the journal and the checkpoint savers, and their data.
    reporter: Progress, streamed text, usage and retries of a running visit.
    run_info: The facts about a claimed run, and the reasons to stop it.
    run_state: Node records, node states and uncommitted events.
    scheduler: The callbacks of the graph: runs due nodes and settles results.
    single_node: Executes one node outside any run.
    stop: The stop requests of a run.
    stretches: The limits of a stretch, and what each visit in it has changed.
    task_runner: Runs nodes as tasks beside the graph.
    waits: The open timers, questions and child runs.
"""
