"""Resolvers of runs.

- queries: read runs, node states and checkpoints
- event_pages: read pages of events and logs
- queue_reasons: why a QUEUED run has not started yet
- comparison: compare two runs
- start: create, execute and start runs, and wait until one is idle
- exposed: start and read runs of exposed workflows by their names
- control: cancel, pause, resume, rewind, step, answer, and set breakpoints
- derive: retry and fork
- bulk: choose the runs of bulk jobs, and work on these
- signals: send events to runs, receive callbacks, and list them
- threads: read and delete conversations
- large_values: read large inputs and outputs
- projection: a run as one subscriber has seen it
- subscriptions: follow runs, events, lists of runs and drafts
- node_test: execute one node outside any run
"""
