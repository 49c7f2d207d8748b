"""The built-in node types, one module each, and the registry that adds those of packages.

Modules:
    registry: loads all node types of this installation.
    resources: opens the resources that nodes use, once per process.
    start, end: the first and the last node of a run.
    fail: fails the run or its branch.
    transform: builds a JSON value with templates.
    conditional, switch: select a port by conditions.
    delay, human, subworkflow: wait for a time, a person or a child run.
    wait_event: waits for an event that a system outside sends.
    tool: calls a tool of the catalog.

Packages:
    ai: `llm` and `agent`.
    code: `code`, Python in a sandbox.
    http: `http`, requests to APIs.
    map: `map`, a node or a spec for each item of a list.
"""
