"""Makes and reads ids: TypeIDs, whose prefix names the type and whose rest sorts by creation time."""

from datetime import datetime
from enum import StrEnum

from typeid import TypeID
from typeid.core.errors import TypeIDException
from uuid_utils import UUID


class Prefix(StrEnum):
    """Every kind of thing that has a global id."""

    PROJECT = "prj"
    WORKFLOW = "wf"
    VERSION = "ver"
    RUN = "run"
    CHECKPOINT = "ckp"
    TRIGGER = "trg"
    SECRET = "sec"


def new_id(prefix: str) -> str:
    return str(TypeID(prefix))


def first_id(prefix: str, moment: datetime, later_s: float = 0) -> str:
    """Below every id that is made `later_s` after `moment`, or after that.

    An id begins with the milliseconds of its making (UUIDv7, RFC 9562).
    """
    milliseconds = min(max(int((moment.timestamp() + later_s) * 1000), 0), 2**48 - 1)
    return str(TypeID.from_uuid(UUID(int=milliseconds << 80), prefix))


def prefix_of(id: str) -> Prefix | None:
    """The kind of thing `id` names, or None where it is no id of ours."""
    try:
        return Prefix(TypeID.from_string(id).prefix)
    except (TypeIDException, ValueError):
        return None
