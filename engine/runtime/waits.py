"""The open waits of one run while a worker has it: timers that come due, questions that get answered.

The rows are the truth; a crash loses nothing but the in-process timer, and the next take-up reads the rows again.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from typeid import TypeID

from engine.events import RunError
from engine.runtime.ports import OpenWait
from engine.sdk.node import ANSWERED, EXPIRED, Output, WaitForAnswer, WaitForRun, WaitUntil
from engine.states import RunStatus, WaitKind
from engine.types import JSON


class Waits:
    """By id. `opened` and `settled` are what the next entry has to make durable."""

    def __init__(self) -> None:
        self._open: dict[str, OpenWait] = {}
        self._opened: list[OpenWait] = []
        self._settled: list[str] = []

    def recall(self, waits: Iterable[OpenWait]) -> None:
        """Takes over what the store remembers."""
        self._open = {wait.id: wait for wait in waits}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, node_id: str, visit: int, outcome: WaitUntil | WaitForAnswer | WaitForRun, given: JSON) -> OpenWait:
        """`given` is what the node was given; a question shows its prompt instead."""
        id_ = str(TypeID(prefix="wait"))
        now = datetime.now(UTC)
        if isinstance(outcome, WaitUntil):
            wait = OpenWait(id_, node_id, visit, WaitKind.TIMER, now, outcome.until, outcome.output, given)
        elif isinstance(outcome, WaitForRun):
            wait = OpenWait(id_, node_id, visit, WaitKind.RUN, now, prompt=given, child_run_id=outcome.run_id)
        else:
            expiry = Output(None, EXPIRED)
            until, prompt, schema = outcome.expires_at, outcome.prompt, outcome.schema
            wait = OpenWait(id_, node_id, visit, WaitKind.INPUT, now, until, expiry, prompt, schema)
        self._open[id_] = wait
        self._opened.append(wait)
        return wait

    def answered(self, waits: Iterable[OpenWait]) -> None:
        """Rows that have an answer now. One that is over already stays over."""
        for wait in waits:
            if wait.id in self._open:
                self._open[wait.id] = wait

    def over(self) -> Iterator[tuple[OpenWait, Output | RunError]]:
        """Takes the waits that are over: answered, or past their moment. An answer in time goes before the expiry."""
        now = datetime.now(UTC)
        for wait in list(self._open.values()):
            output = _end_of(wait, now)
            if output is not None:
                del self._open[wait.id]
                self._settled.append(wait.id)
                yield wait, output

    def abandon(self) -> None:
        """The run is over: nobody waits any more."""
        self._settled.extend(self._open)
        self._open = {}

    def take(self) -> tuple[list[OpenWait], list[str]]:
        """What the next entry has to say, handed over once."""
        opened, self._opened = self._opened, []
        settled, self._settled = self._settled, []
        return opened, settled

    @property
    def children(self) -> list[str]:
        """The runs that are waited for."""
        return [wait.child_run_id for wait in self._open.values() if wait.child_run_id is not None]

    @property
    def nodes(self) -> list[str]:
        return [wait.node_id for wait in self._open.values()]

    @property
    def next_due(self) -> datetime | None:
        """When the first of them is over: a moment that has passed, where one is answered."""
        due = [wait.since if wait.is_answered else wait.until for wait in self._open.values()]
        return min((moment for moment in due if moment is not None), default=None)

    def told(self) -> str:
        """For people: what all of them wait for."""
        return "; ".join(_told(wait) for wait in self._open.values())


def _end_of(wait: OpenWait, now: datetime) -> Output | RunError | None:
    if wait.kind is WaitKind.RUN:
        return _end_of_child(wait) if wait.is_answered else None
    if wait.is_answered:
        return Output(wait.answer, ANSWERED)
    if wait.until is not None and wait.until <= now:
        return wait.outcome
    return None


def _end_of_child(wait: OpenWait) -> Output | RunError:
    """A RUN's answer is how the child stands: {status, output, error}."""
    status, error = wait.answer["status"], wait.answer["error"]
    if status == RunStatus.COMPLETED:
        return Output(wait.answer["output"])
    message = f"run {wait.child_run_id} is {status}" + (f": {error['message']}" if error else "")
    details = {"runId": wait.child_run_id, "status": status, "error": error}
    return RunError("SUBWORKFLOW", message, wait.node_id, bool(error and error["retryable"]), details)


def _told(wait: OpenWait) -> str:
    if wait.kind is WaitKind.INPUT:
        return f"{wait.node_id!r} waits for an answer"
    if wait.kind is WaitKind.RUN:
        return f"{wait.node_id!r} waits for run {wait.child_run_id}"
    return f"{wait.node_id!r} waits until {wait.until:%Y-%m-%d %H:%M:%S} UTC"
