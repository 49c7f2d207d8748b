"""Versions found fit to run: neither their content nor this process's node types change, so each is validated once."""

from collections import OrderedDict

import orjson

from persistence.workflows.versions import Version

MAX_BYTES = 16 * 1024 * 1024
"""Of all specs that are kept, as JSON; in memory they take some times as much."""


class Runnable:
    """By id; the ones that were not asked for the longest go first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._known: OrderedDict[str, tuple[Version, int]] = OrderedDict()
        self._left = max_bytes

    def get(self, version_id: str) -> Version | None:
        found = self._known.get(version_id)
        if found is None:
            return None
        self._known.move_to_end(version_id)
        return found[0]

    def remember(self, version: Version) -> None:
        if version.id in self._known:
            return
        size = len(orjson.dumps(version.spec))
        self._known[version.id] = version, size
        self._left -= size
        while self._left < 0:
            _, (_, freed) = self._known.popitem(last=False)
            self._left += freed


runnable = Runnable()
