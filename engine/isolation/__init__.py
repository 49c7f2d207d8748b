"""Runs potentially unbounded work (templates, schemas, regex tools) in a child process with limits.

Modules:
    client: Starts the child process, sends it tasks and reports which limit a task exceeded.
    server: The program of the child process; it runs tasks from an allow-list.
"""
