"""The built-in trigger kinds, one module a kind, and the registry of all kinds.

Modules:
    registry: Loads the built-in kinds and those of packages.
    schedule: Fires at the times of a cron expression or of an interval.
"""
