"""The API for authors of node types and tools. The package `treadle` exports its public part.

Modules:
    analytics: Analytics events, and the base class of sinks.
    annotations: Finds the values in a node's config that its JSON Schema marks by `format`.
    node: NodeType, its config, its results and the context of a call.
    node_types: The mapping from names to node types.
    plugins: Explains why the package of an entry point could not be loaded.
    resources: Protocols of the resources that need a database.
    tool: The protocol of a tool.
    trigger: TriggerKind and the base of its config model.
"""
