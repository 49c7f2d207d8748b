"""From a spec to a graph that LangGraph runs: plan, routing, channels and compiled graphs.

Modules:
    bound_node: Nodes bound to their types, with their config validated.
    channels: The channels of a compiled graph.
    compiler: Compiles a spec to a LangGraph graph and caches the graphs.
    detached: Detaches a nested LangGraph run from its parent.
    head: The due nodes and the pending writes of a head checkpoint.
    plan: Loops, kinds of edges, rounds and joins of a graph.
    routing: The edges that a node takes, and the tokens that it sends.
"""
