"""Triggers: editors create, change and delete them, runners start them, and viewers follow them.

Each change is one transaction, and workers are notified after its commit. If the notification is
lost, they find the change within seconds.

Modules:

- checks: validate the kind, the config and the inputs of a trigger
- commands: create, change and delete
- queries: lists, planned times, and the subscription to events
- start: start a run by hand, test a trigger, and backfill a range
- webhooks: receive, list and replay the requests of webhooks
"""
