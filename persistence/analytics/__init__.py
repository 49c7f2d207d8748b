"""Analytics events: what happens in projects, for systems that analyse it.

- `outbox`: claims the events that are not published yet, and records who has them.
- `publisher`: sends claimed events to the stream of their project and to the sinks.
- `sinks`: loads the sinks of packages.
"""
