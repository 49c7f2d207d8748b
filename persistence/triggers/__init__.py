"""Triggers: what starts runs without a caller, and the record of each firing.

The event of a firing, its run and the next planned time are written by one transaction, so a crash
leaves all of them or none.

Modules:
    candidate: A due trigger with what is to be done.
    due: Claims triggers that are due and fires them.
    events: The record of firings, with at most one FIRED event for each deduplication key.
    firing: Turns an event into a run of the published version.
    pending: Firings that are accepted and wait for a worker.
    polling: Asks the sources of triggers that are polled.
    preparation: Prepares firings side by side, so that a slow template delays its own trigger only.
    redis_connections: Connections to Redis servers of authors, with limits.
    redis_streams: Reads streams of Redis servers by consumer groups.
    trigger: Triggers as rows: create, change, delete and list.
    webhooks: The tokens of webhooks, and the requests that they have received.
"""
