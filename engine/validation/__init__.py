"""Validation of specs before they run: reports every problem at once and executes nothing.

Modules:
    validator: validates a whole spec, or the config of a single node.
    retry_codes: Warns of codes in `retry.on` that no error has.
    spec_checks: checks of size, node types and configs, nested nodes included.
    graph_checks: checks of ids, edges and reachability, and which nodes can run before which.
    switches: warns of the ports of a `switch` that no edge leaves.
    run_output: warns of parts of a graph whose end gives no output.
    loop_exits: warns of edges that leave a loop while it may go on.
    handles: reads `sourceHandle` of React Flow as the port of an edge.
    outputs: warns of `outputs` that keep a question open.
    spec_schema: the JSON Schema of a whole spec.
    nested: which node types may be used inside a `map`.
    template_scopes: finds every template of a spec, with the names that it may use.
    templates: checks of the syntax and the names of one template.
    catalog_names: warnings about models and tools that this host does not have.
"""
