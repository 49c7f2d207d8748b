"""The position of a client in the updates of a run: what it asks for, what it has received, and the end."""

from collections.abc import Sequence
from typing import Any

from engine.states import TERMINAL
from treadle.client import models
from treadle.client.models import RunUpdateData
from treadle.client.operations import Operation, updates_of

RUN_STATUS = "RUN_STATUS"
NUMBERED = ("NodeStateChanged", "LogRecorded", "CheckpointSaved", "RunStatusChanged")
"""The types of events that have a number of their own. Other updates have that of the event before."""
_MODELS: dict[str, type[models.UpdateData]] = {
    kind.model_fields["typename"].default: kind for kind in RunUpdateData.__args__
}


class RunWatch:
    """Reads the updates of one run over any number of connections.

    Args:
        after: The last `seq` received; None begins with a snapshot.
        types: The types of changes to return; None returns all.
    """

    def __init__(self, run_id: str, after: int | None, types: Sequence[str] | None) -> None:
        self._run_id, self._types = run_id, types
        self.seq = after
        self.is_ended = False

    def subscription(self) -> Operation[dict[str, Any]]:
        """Create the subscription that continues after the last update. The end of the run is always asked for."""
        types = None if self._types is None else sorted({*self._types, RUN_STATUS})
        return updates_of(self._run_id, self.seq, types)

    def receive(self, message: dict[str, Any]) -> RunUpdateData | None:
        """Advance, and return the update; None if it is a repeat, was not asked for, or is of an unknown type."""
        name = message["__typename"]
        if name not in _MODELS:
            return None
        if name in NUMBERED and self.seq is not None and message["seq"] <= self.seq:
            return None
        self.seq = max(message["seq"], self.seq or 0)
        status = message["run"]["status"] if name == "RunSnapshot" else message.get("status")
        self.is_ended = self.is_ended or status in TERMINAL
        if name == "RunStatusChanged" and self._types is not None and RUN_STATUS not in self._types:
            return None
        update: Any = _MODELS[name].model_validate(message)
        return update  # type: ignore[no-any-return]
