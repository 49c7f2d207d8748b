"""Triggers: editors create, change and delete them, runners start them, and viewers follow them.

Each change is one transaction, and workers are notified after its commit. If the notification is
lost, they find the change within seconds.

Modules:

- batch_queue: work of many requests on one webhook, done together
- checks: validate the kind, the config and the inputs of a trigger
- commands: create, change and delete
- messages: find webhooks, store requests, and record them with their runs, by the queue
- queries: lists, planned times, and the subscription to events
- responses: the responses to requests of webhooks
- start: start a run by hand, test a trigger, and backfill a range
- webhooks: receive, list and replay the requests of webhooks
"""
