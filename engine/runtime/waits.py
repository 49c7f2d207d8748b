"""The open waits of one claimed run: timers, questions, child runs and backoffs before a retry.

The rows in the database are the truth. A crash loses only the timer in this process: the next
claim loads the rows again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import assert_never

from typeid import TypeID

from engine.events import RunError
from engine.metrics import RUN_WAITING_SECONDS
from engine.runtime.ports import OpenWait
from engine.sdk.node import (
    ANSWERED,
    EXPIRED,
    RECEIVED,
    Output,
    Wait,
    WaitForAnswer,
    WaitForEvent,
    WaitForRun,
    WaitUntil,
)
from engine.states import RunStatus, WaitKind
from engine.types import JSON

_QUIET = (WaitKind.TIMER, WaitKind.INPUT, WaitKind.EVENT)


class Waits:
    """The open waits by id, and their changes since the last commit."""

    def __init__(self) -> None:
        self._open: dict[str, OpenWait] = {}
        self._opened: list[OpenWait] = []
        self._settled_ids: list[str] = []

    def restore(self, waits: Iterable[OpenWait]) -> None:
        """Adopt the stored waits. Call it before any other change."""
        self._open = {wait.id: wait for wait in waits}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, node_id: str, visit: int, outcome: Wait, node_input: JSON) -> OpenWait:
        """Open a wait for a visit of a node.

        Args:
            node_id: The node that waits.
            visit: The number of its visit.
            outcome: What it waits for.
            node_input: The input of the node, which becomes the prompt of the wait. A question has
                a prompt of its own.
        """
        id_, now = str(TypeID(prefix="wait")), datetime.now(UTC)
        match outcome:
            case WaitUntil(until, output):
                wait = OpenWait(id_, node_id, visit, WaitKind.TIMER, now, until, output, node_input)
            case WaitForRun(child_run_id):
                wait = OpenWait(id_, node_id, visit, WaitKind.RUN, now, prompt=node_input, child_run_id=child_run_id)
            case WaitForAnswer(prompt, schema, expires_at, answerers):
                wait = OpenWait(id_, node_id, visit, WaitKind.INPUT, now, expires_at, Output(None, EXPIRED), prompt)
                wait = replace(wait, schema=schema, answerers=answerers)
            case WaitForEvent(name, key, schema, expires_at):
                wait = OpenWait(
                    id_,
                    node_id,
                    visit,
                    WaitKind.EVENT,
                    now,
                    expires_at,
                    Output(None, EXPIRED),
                    node_input,
                    schema,
                    event_name=name,
                    event_key=key,
                )
            case _:
                assert_never(outcome)
        return self._add(wait)

    def open_backoff(self, node_id: str, visit: int, pause_s: float) -> OpenWait:
        """Open the wait for the next attempt of a node, which begins in `pause_s` seconds."""
        now = datetime.now(UTC)
        until = now + timedelta(seconds=pause_s)
        return self._add(OpenWait(str(TypeID(prefix="wait")), node_id, visit, WaitKind.RETRY, now, until))

    def _add(self, wait: OpenWait) -> OpenWait:
        self._open[wait.id] = wait
        self._opened.append(wait)
        return wait

    def add_answers(self, waits: Iterable[OpenWait]) -> None:
        """Adopt rows that have an answer now. Waits that are settled stay settled."""
        for wait in waits:
            if wait.id in self._open:
                self._open[wait.id] = wait

    def take_ended(self) -> Iterator[tuple[OpenWait, Output | RunError]]:
        """Remove the waits that have ended, except backoffs, and yield each with its result.

        An answer that came in time has priority over the expiry.
        """
        now = datetime.now(UTC)
        for wait in list(self._open.values()):
            result = _result_of(wait, now)
            if result is not None:
                self._end(wait, now)
                yield wait, result

    def take_ended_backoffs(self) -> Iterator[OpenWait]:
        """Remove and yield the backoffs that have ended."""
        now = datetime.now(UTC)
        for wait in list(self._open.values()):
            if wait.kind is WaitKind.RETRY and wait.until is not None and wait.until <= now:
                self._end(wait, now)
                yield wait

    def _end(self, wait: OpenWait, now: datetime) -> None:
        """Settle a wait with its result."""
        RUN_WAITING_SECONDS.labels(wait.kind.value).observe(max((now - wait.since).total_seconds(), 0))
        self._settle(wait)

    def _settle(self, wait: OpenWait) -> None:
        del self._open[wait.id]
        self._settled_ids.append(wait.id)

    @property
    def quiet(self) -> list[str]:
        """The nodes that wait for a time or an answer, and have not ended."""
        return [wait.node_id for wait in self._unended() if wait.kind in _QUIET]

    @property
    def busy(self) -> list[str]:
        """The nodes that have effects outside while they wait: for a child run, or for an attempt."""
        return [wait.node_id for wait in self._unended() if wait.kind in (WaitKind.RUN, WaitKind.RETRY)]

    def _unended(self) -> Iterator[OpenWait]:
        now = datetime.now(UTC)
        for wait in self._open.values():
            is_due = wait.kind is WaitKind.RETRY and wait.until is not None and wait.until <= now
            if not is_due and _result_of(wait, now) is None:
                yield wait

    def cancel(self, node_id: str) -> OpenWait | None:
        """Settle the open wait of a node without a result. A later answer to it is refused."""
        wait = next((wait for wait in self._open.values() if wait.node_id == node_id), None)
        if wait is not None:
            self._settle(wait)
        return wait

    def abandon(self) -> None:
        """Settle all open waits because the run ends."""
        self._settled_ids.extend(self._open)
        self._open = {}

    def take_changes(self) -> tuple[list[OpenWait], list[str]]:
        """Return the waits opened and the ids of those settled since the last commit.

        Each change is returned once.
        """
        opened, self._opened = self._opened, []
        settled_ids, self._settled_ids = self._settled_ids, []
        return opened, settled_ids

    @property
    def child_run_ids(self) -> list[str]:
        """The runs that this run waits for."""
        return [wait.child_run_id for wait in self._open.values() if wait.child_run_id is not None]

    @property
    def has_events(self) -> bool:
        """Whether the run waits for an event from outside."""
        return any(wait.kind is WaitKind.EVENT for wait in self._open.values())

    @property
    def node_ids(self) -> list[str]:
        """The nodes that have an open wait."""
        return [wait.node_id for wait in self._open.values()]

    @property
    def next_due(self) -> datetime | None:
        """The time at which the first wait ends without an answer.

        It is a past time if a wait is answered; None if no wait has a limit.
        """
        due = [wait.since if wait.is_answered else wait.until for wait in self._open.values()]
        return min((at for at in due if at is not None), default=None)

    @property
    def next_retry(self) -> datetime | None:
        """The time at which the first backoff ends; None if there is none."""
        due = [wait.until for wait in self._open.values() if wait.kind is WaitKind.RETRY]
        return min((at for at in due if at is not None), default=None)

    def describe(self) -> str:
        """Describe all open waits in a message for people."""
        return "; ".join(f"{wait.node_id!r} {_description(wait)}" for wait in self._open.values())


def _result_of(wait: OpenWait, now: datetime) -> Output | RunError | None:
    """Return the result of a wait; None if it has not ended."""
    if wait.kind is WaitKind.RETRY:
        return None
    if wait.kind is WaitKind.RUN:
        return _result_of_child(wait) if wait.is_answered else None
    if wait.is_answered:
        return Output(wait.answer, RECEIVED if wait.kind is WaitKind.EVENT else ANSWERED)
    if wait.until is not None and wait.until <= now:
        return wait.outcome
    return None


def _result_of_child(wait: OpenWait) -> Output | RunError:
    """Convert the end of a child run, stored in the answer as {status, output, error}."""
    status, error = wait.answer["status"], wait.answer["error"]
    if status == RunStatus.COMPLETED:
        return Output(wait.answer["output"])
    message = f"run {wait.child_run_id} is {status}" + (f": {error['message']}" if error else "")
    details = {"runId": wait.child_run_id, "status": status, "error": error}
    return RunError("SUBWORKFLOW", message, wait.node_id, bool(error and error["retryable"]), details)


def message_of(wait: OpenWait) -> str:
    """Return the message of a node that waits."""
    match wait.kind:
        case WaitKind.TIMER:
            return f"until {wait.until:%Y-%m-%dT%H:%M:%SZ}"
        case WaitKind.RETRY:
            raise AssertionError("a backoff has the message of its failed attempt")
        case _:
            return _description(wait)


def _description(wait: OpenWait) -> str:
    match wait.kind:
        case WaitKind.INPUT:
            return "waits for an answer"
        case WaitKind.EVENT:
            return f"waits for the event {wait.event_name!r}"
        case WaitKind.RUN:
            return f"waits for run {wait.child_run_id}"
        case WaitKind.TIMER:
            return f"waits until {wait.until:%Y-%m-%d %H:%M:%S} UTC"
        case WaitKind.RETRY:
            return f"tries again at {wait.until:%Y-%m-%d %H:%M:%S} UTC"
        case _:
            assert_never(wait.kind)
