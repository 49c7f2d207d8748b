"""Runs potentially unbounded work (templates, schemas, regex tools) in a child process with limits.

Modules:
    client: Starts the child process, sends it tasks and reports which limit a task exceeded.
    computation: Runs long computations of this process in threads.
    loop_share: Lets long work on the event loop take turns with everything else.
    server: The program of the child process; it runs tasks from an allow-list.
    suspension: Lets a synchronous function wait while the event loop goes on.
    threads: Threads that serve the work of several projects in turn.
    turns: The queue of these turns, and the owner of the work.
"""
