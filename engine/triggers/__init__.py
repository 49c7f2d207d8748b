"""The built-in trigger kinds, one module a kind, and the registry of all kinds.

Modules:
    feed: Reads the entries of RSS and Atom.
    planning: Decides which planned times fire, and when to look again.
    poll: Fires for the new items of a list over HTTP.
    redis_stream: Fires for the entries of a stream of Redis.
    registry: Loads the built-in kinds and those of packages.
    run_finished: Fires when a run ends.
    schedule: Fires at the times of a cron expression or of an interval.
    webhook: Fires for requests to its address.
"""
