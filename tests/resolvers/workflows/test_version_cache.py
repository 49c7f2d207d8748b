"""The cache of versions is bounded by the size of their specs."""

from datetime import UTC, datetime

from engine.states import VersionStatus
from persistence.workflows.versions import Version
from resolvers.workflows.version_cache import VersionCache


def version(id: str, size: int) -> Version:
    spec = {"nodes": "x" * size}
    now = datetime.now(UTC)
    return Version(id, "prj_1", "wf_1", 1, spec, "hash", VersionStatus.DRAFT, now, "tester", None)


def test_the_least_recently_used_version_is_dropped_first() -> None:
    cache = VersionCache(max_bytes=1000)
    for id in ("a", "b"):
        cache.add(version(id, 400))
    assert cache.get("a") is not None
    cache.add(version("c", 400))
    assert [id for id in "abc" if cache.get(id)] == ["a", "c"]


def test_a_version_larger_than_the_cache_is_not_cached_and_uses_no_space() -> None:
    cache = VersionCache(max_bytes=1000)
    cache.add(version("huge", 5000))
    assert cache.get("huge") is None
    cache.add(version("small", 400))
    cache.add(version("small", 400))
    cache.add(version("other", 400))
    assert [id for id in ("small", "other") if cache.get(id)] == ["small", "other"]
