"""Finds the known name that the author of a wrong one probably meant. Pure."""

from collections.abc import Collection
from difflib import get_close_matches

MAX_LENGTH = 64
"""Characters of a name that is compared."""
MAX_KNOWN = 200
"""Known names that are compared: each comparison takes some microseconds."""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the end of a message that names the nearest known name; an empty text if none is near."""
    near = nearest(name, known)
    return f"; did you mean `{near}`?" if near else ""


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that is most like another one, without regard to case, `_` and `-`."""
    if len(name) > MAX_LENGTH or len(known) > MAX_KNOWN:
        return None
    # Of two spellings of one name, the last one counts: the one that is written like the wrong name.
    plain = {_plain(one): one for one in sorted(known, key=lambda one: (("_" in one) == ("_" in name), one))}
    if _plain(name) in plain:
        return plain[_plain(name)]
    similar = [one for one in plain if abs(len(one) - len(name)) <= 3]
    return next((plain[one] for one in get_close_matches(_plain(name), similar, n=1, cutoff=0.7)), None)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
