"""Conversations: the threads of runs and their messages. The journal appends the messages.

Modules:
    memory: `ThreadStore`, which reads the window of a node.
    thread: Threads as rows: list, read, delete.
"""
