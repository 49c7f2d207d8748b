"""Cache of versions that have been checked and may run: each is validated once a process.

Neither the content of a version nor the node types of a process ever change. Which version a
workflow executes by default may change at any time, so that part is a guess, which the statement that
accepts a run checks. `runs.start` is the only user. The cache is memory only, so a crash loses nothing.
"""

from contextlib import suppress

import orjson
from cachetools import LRUCache

from persistence.workflows.versions import Version

MAX_DEFAULTS = 10_000
"""Number of workflows whose default version is remembered."""
MAX_BYTES = 16 * 1024 * 1024
"""Total size of the cached specs as JSON. In memory they take several times as much."""


class VersionCache:
    """Versions by id; the least recently used are dropped first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._versions: LRUCache[str, Version] = LRUCache(max_bytes, getsizeof=_spec_bytes)
        self._defaults: LRUCache[str, str] = LRUCache(MAX_DEFAULTS)

    def get(self, version_id: str) -> Version | None:
        """Return the version if it is cached."""
        return self._versions.get(version_id)

    def add(self, version: Version) -> None:
        """Cache a version that may run."""
        if version.id not in self._versions:
            with suppress(ValueError):  # The spec is larger than the whole cache.
                self._versions[version.id] = version

    def last_default(self, workflow_id: str) -> Version | None:
        """Return what `set_default` was called with, if it is cached. It may be outdated."""
        version_id = self._defaults.get(workflow_id)
        return None if version_id is None else self.get(version_id)

    def set_default(self, workflow_id: str, version_id: str) -> None:
        """Remember the version that runs of a workflow execute by default."""
        self._defaults[workflow_id] = version_id


def _spec_bytes(version: Version) -> int:
    return len(orjson.dumps(version.spec))


checked_versions = VersionCache()
