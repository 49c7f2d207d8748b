"""Embedded stores: a real Postgres and a real Redis as child processes, for local use and tests.

- `servers`: prepares folders, locks and commands of both stores.
- `process`: starts, checks, restarts and stops the process of one store.
- `os_user`: the operating system user that Postgres runs as.
"""
