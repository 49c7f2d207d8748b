"""The workflow engine: reads, checks, compiles and executes workflows.

The engine imports no storage, queue or API library. It declares Protocols for what it needs from
outside, and persistence and worker implement them. A package may import only packages below it in
this list; import-linter checks this (pyproject.toml).

Packages, from the lowest layer to the highest:
    isolation: Runs potentially unbounded work in a child process with limits.
    sdk: The API for authors of node types and tools; the package `treadle` exports it.
    values: JSON values: storability, JSON Schema, timestamps, redaction of secrets.
    workflow_templates: Example workflows from which users create their own.
    expressions: Templates and expressions: syntax, analysis, cost and evaluation.
    tools: The tools that nodes call: built-in, of Python packages, MCP and SQL.
    spec: The workflow spec: its data model, its parser and its hash.
    chat_models: Language models: catalog, calls, structured output, errors.
    graph: Compiles a spec to a plan and a LangGraph graph.
    runtime: Executes one run: schedules nodes, makes attempts, commits results.
    validation: Finds every problem of a spec before it runs.
    nodes: The built-in node types, and the registry of all node types.
    triggers: The built-in trigger kinds, and the registry of all kinds.
    notifications: Messages to other systems: their signature, their attempts, their sending.
    fork: Changes the state of a run for a fork, a retry or a rewind.

Modules:
    catalog_file: Reads `treadle.toml`, the catalog of models, MCP servers and databases.
    connection_faults: Own sentences for the faults of connections.
    errors: Exceptions that every package may raise.
    events: The events of a run, as plain values.
    interpreter: Starts modules of this installation in other Python processes.
    invalid_values: Own sentences for the errors of pydantic.
    metrics: Every metric, in the text format of Prometheus.
    near_names: Finds the known name that a wrong one probably means.
    release: The version of this release.
    problems: The value type for one problem of an input or a spec.
    response_headers: The limits of the headers of a response.
    states: The enums of the domain, and the state machine of a run.
    time_zones: Takes time zones from the package `tzdata`, for the whole process.
    tracing: Spans of OpenTelemetry, if tracing is on.
    types: The type of JSON values.
"""

from engine import time_zones

time_zones.use_package()
