"""Forks, retries and rewinds: the state of a run, changed and carried over to a new run.

Modules:
    frontier: The state of a run in terms of nodes and edges.
    history: Past visits and tokens, read from checkpoints.
    invalidation: Removes what was computed from a visit.
    migration: Carries a frontier over to another version.
    patch: Replaces outputs of nodes and routes anew.
"""
