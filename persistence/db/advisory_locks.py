"""The keys of the advisory locks that have a fixed key.

Postgres has one space of keys for the whole database, so two purposes with one key would block each
other. Workers hold locks with random keys besides (`maintenance/presence.py`).
"""

from enum import IntEnum, unique


@unique
class AdvisoryLock(IntEnum):
    """What a fixed key locks. The values are in use by running releases, so they do not change."""

    MIGRATIONS = 7_233_150_418
    LIMITS = 7_233_150_419
    """The count and the claim of runs with a limit, so that limits are exact."""
    PARTITIONS = 7_233_150_420
    """Changes of partitions."""
    STATISTICS = 7_233_150_421
    """Folding of the ends of runs."""
