"""Signals: events that systems outside send to runs. docs/signals.md draws the states.

An event and the end of the wait that it answers are written by one transaction, so a crash leaves both
or neither, and each event ends a wait once.

Modules:
    callback: The signed addresses of waits.
    delivery: Accepts an event and ends the waits for it.
    matching: Gives waits the events that came before them.
    signal: Events as rows: insert, refuse and list.
"""
