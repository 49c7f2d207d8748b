"""GraphQL types, queries and mutations of runs.

- run: `Run` and its fields
- node_state: `NodeState`, `RunError`, `Usage`
- event: `RunEvent` and its types, pages of events and logs
- checkpoint: `Checkpoint`
- wait: `Wait` and its types
- signal: `Signal`, and the input and payload of `sendEvent`
- thread: `Thread` and `ThreadMessage`, and their root fields
- inputs: input types and payloads of run mutations, and their conversion to domain arguments
- queries, mutations: root fields
- bulk: `BulkJob`, and its root fields
- worker: `Worker`, and its root field
- comparison: `RunComparison`, and its root field
- node_test: `testNode`
"""
