"""Makes and reads ids: TypeIDs, whose prefix names the type and whose rest sorts by creation time."""

from enum import StrEnum

from typeid import TypeID
from typeid.core.errors import TypeIDException


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


def prefix_of(id: str) -> Prefix | None:
    """The kind of thing `id` names, or None where it is no id of ours."""
    try:
        return Prefix(TypeID.from_string(id).prefix)
    except (TypeIDException, ValueError):
        return None
