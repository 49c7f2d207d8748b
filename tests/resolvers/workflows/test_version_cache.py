"""What is kept of versions is bounded by what their specs take."""

from datetime import UTC, datetime

from engine.states import VersionStatus
from persistence.workflows.versions import Version
from resolvers.workflows.version_cache import Runnable


def version(name: str, size: int) -> Version:
    spec = {"nodes": "x" * size}
    now = datetime.now(UTC)
    return Version(name, "prj_1", "wf_1", 1, spec, "hash", VersionStatus.DRAFT, now, "tester", None)


def test_the_ones_that_nobody_asked_for_go_first() -> None:
    known = Runnable(max_bytes=1000)
    for name in ("a", "b"):
        known.remember(version(name, 400))
    assert known.get("a") is not None
    known.remember(version("c", 400))
    assert [name for name in "abc" if known.get(name)] == ["a", "c"]


def test_one_that_is_too_large_is_not_kept_and_takes_nobodys_room_for_good() -> None:
    known = Runnable(max_bytes=1000)
    known.remember(version("huge", 5000))
    assert known.get("huge") is None
    known.remember(version("small", 400))
    known.remember(version("small", 400))
    known.remember(version("other", 400))
    assert [name for name in ("small", "other") if known.get(name)] == ["small", "other"]
