"""Makes and parses TypeIDs.

A TypeID is a prefix that names the type, and a UUIDv7 (RFC 9562) that sorts by creation time.
"""

from datetime import datetime
from enum import StrEnum

from typeid import TypeID
from typeid.core.errors import TypeIDException
from uuid_utils import UUID


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


def new_id(prefix: str) -> str:
    return str(TypeID(prefix))


def first_id(prefix: str, moment: datetime, later_s: float = 0) -> str:
    """Return a lower bound of all ids that are made from `moment` plus `later_s` seconds on.

    An id begins with the milliseconds of its creation (UUIDv7, RFC 9562), so ids compare as their
    moments do.
    """
    milliseconds = min(max(int((moment.timestamp() + later_s) * 1000), 0), 2**48 - 1)
    return str(TypeID.from_uuid(UUID(int=milliseconds << 80), prefix))


def prefix_of(id: str) -> Prefix | None:
    """Return the kind of resource that an id names, or None for any other text."""
    try:
        return Prefix(TypeID.from_string(id).prefix)
    except (TypeIDException, ValueError):
        return None
