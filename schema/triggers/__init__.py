"""Triggers, the record of their firings, and their mutations.

Modules:

- trigger: triggers and their events
- inputs: inputs and payloads of the mutations
- mutations, queries: the root fields
"""
