"""Alert rules: their rows, and their evaluation from the statistics of ended runs.

A database trigger writes the message of a change of state in its transaction (migration 0027).

Modules:
    evaluation: Claims rules that are due, and changes their states.
    rule: Rules as rows: create, change, delete and list.
"""
