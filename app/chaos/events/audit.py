"""Audit of the events around the system: one run for each event, one message for each change of a run.

The functions are pure. The runs of triggers are recognised by their workflows and inputs, not by the
records of the triggers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from app.chaos.audit import Finding
from app.chaos.events.sources import SentEvents
from app.chaos.load import StartedRun
from app.chaos.run_history import AuditedRun
from app.chaos.workflows import event_case
from engine.states import TERMINAL, RunStatus

NOTIFIED = {*TERMINAL, RunStatus.WAITING}
"""The statuses that the endpoint receives."""


def started_by_triggers(sent: SentEvents, runs: Iterable[AuditedRun]) -> dict[str, StartedRun]:
    """Return the runs of triggers with the results that they must have, by id."""
    return {run.id: StartedRun(run.id, event_case(_key(run))) for run in runs if run.workflow_id in sent.keys}


def check_events(sent: SentEvents, runs: Mapping[str, AuditedRun]) -> list[Finding]:
    """Check the guarantees for events, and return one finding for each."""
    return [
        Finding("events without a run", list(_lost_events(sent, runs.values()))),
        Finding("events with two runs", list(_repeated_events(sent, runs.values()))),
        Finding("changes of runs without a message", list(_message_differences(sent, runs.values(), lost=True))),
        Finding("changes of runs with two messages", list(_message_differences(sent, runs.values(), lost=False))),
        Finding("messages with an invalid signature", sent.invalid),
    ]


def _key(run: AuditedRun) -> str:
    return str((run.inputs or {}).get("key"))


def _runs_of_events(sent: SentEvents, runs: Iterable[AuditedRun]) -> Counter[tuple[str, str]]:
    return Counter((run.workflow_id, _key(run)) for run in runs if run.workflow_id in sent.keys)


def _lost_events(sent: SentEvents, runs: Iterable[AuditedRun]) -> Iterator[str]:
    found = _runs_of_events(sent, runs)
    for workflow_id, keys in sent.keys.items():
        yield from (f"{sent.kinds[workflow_id]} {key}" for key in sorted(keys) if not found[workflow_id, key])


def _repeated_events(sent: SentEvents, runs: Iterable[AuditedRun]) -> Iterator[str]:
    """Yield events with several runs, and runs of events that nobody has sent."""
    for (workflow_id, key), count in _runs_of_events(sent, runs).items():
        if count > 1 or key not in sent.keys[workflow_id]:
            yield f"{sent.kinds[workflow_id]} {key}: {count} runs"


def _message_differences(sent: SentEvents, runs: Iterable[AuditedRun], *, lost: bool) -> Iterator[str]:
    """Compare the messages with the events of the runs: which are missing, or else which are too many."""
    received = Counter(sent.messages.values())
    expected = Counter(
        (run.id, f"run.{str(event.status).lower()}")
        for run in runs
        if run.parent_id is None
        for event in run.events
        if event.type == "RUN_STATUS" and event.status in NOTIFIED
    )
    different = expected - received if lost else received - expected
    yield from (f"{run_id}: {type} × {count}" for (run_id, type), count in different.items())
