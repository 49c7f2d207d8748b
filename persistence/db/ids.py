"""Makes and parses TypeIDs.

A TypeID is a prefix that names the type, and a UUIDv7 (RFC 9562) that sorts by creation time.
"""

from datetime import UTC, datetime
from enum import StrEnum

from typeid import TypeID
from typeid.core.errors import TypeIDException
from uuid_utils import UUID

_LAST_MS = 253_402_300_799_999
"""The last millisecond that a datetime can have."""


class Prefix(StrEnum):
    """The prefix of every kind of resource that has a global id."""

    PROJECT = "prj"
    WORKFLOW = "wf"
    DRAFT = "dft"
    """The id of its workflow with another prefix."""
    VERSION = "ver"
    RUN = "run"
    CHECKPOINT = "ckp"
    TRIGGER = "trg"
    TRIGGER_EVENT = "tev"
    WEBHOOK_DELIVERY = "whd"
    SIGNAL = "sig"
    SECRET = "sec"
    API_KEY = "key"
    AUDIT_ENTRY = "aud"
    BULK_JOB = "blk"
    BROWSER_SESSION = "ses"
    ENDPOINT = "ep"
    DELIVERY = "dlv"
    ALERT_RULE = "alr"
    THREAD = "thr"


def new_id(prefix: str) -> str:
    return str(TypeID(prefix))


def first_id(prefix: str, moment: datetime, later_s: float = 0) -> str:
    """Return a lower bound of all ids that are made from `moment` plus `later_s` seconds on.

    An id begins with the milliseconds of its creation (UUIDv7, RFC 9562), so ids compare as their
    moments do.
    """
    milliseconds = min(max(int((moment.timestamp() + later_s) * 1000), 0), 2**48 - 1)
    return str(TypeID.from_uuid(UUID(int=milliseconds << 80), prefix))


def moment_of(id: str) -> datetime:
    """Return the moment at which an id, or a text that begins with one, was made.

    An id of a wrong clock can be of a year that Python has not. It is the last moment then.
    """
    prefix, _, suffix = id.partition("_")
    # A TypeID has 26 characters after its prefix, and a UUIDv7 begins with 48 bits of milliseconds.
    milliseconds = TypeID.from_string(f"{prefix}_{suffix[:26]}").uuid.int >> 80
    return datetime.fromtimestamp(min(milliseconds, _LAST_MS) / 1000, UTC)


def prefix_of(id: str) -> Prefix | None:
    """Return the kind of resource that an id names, or None for any other text."""
    try:
        return Prefix(TypeID.from_string(id).prefix)
    except (TypeIDException, ValueError):
        return None
