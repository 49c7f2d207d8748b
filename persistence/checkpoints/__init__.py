"""Checkpoints of runs: LangGraph's saver on our journal, and copies of heads for new runs.

Modules:
    clone: Starts a run from a copy of another run's checkpoint.
    codec: Checkpoints as bytes.
    loader: Loads one checkpoint in the form of LangGraph.
    rewind: Rewinds a paused run to an earlier checkpoint.
    saver: LangGraph's checkpoint saver, for runs that a worker executes.
    snapshots: Reads checkpoints for new runs that are derived from them.
    split: Stores the checkpoints that are derived from steps as rows of their own.
"""
