"""From a spec to a graph that LangGraph runs: plan, position, routing and compiled graphs.

Modules:
    bound_node: Nodes bound to their types, with their config validated.
    channels: The data that LangGraph carries for a run, and the record of a node.
    compiler: Compiles a spec to a LangGraph graph and caches the graphs.
    detached: Detaches a nested LangGraph run from its parent.
    edge_states: The states of a node's outgoing edges.
    head: The head checkpoint of a run as LangGraph sees it.
    liveness: Active nodes that have no effect any more.
    plan: Loops, kinds of edges, rounds and joins of a graph.
    position: The settled edges of a run, and the nodes that are due because of them.
    routing: The edges by which a node leaves.
"""
