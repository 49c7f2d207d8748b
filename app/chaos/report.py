"""The report of a chaos run: a table of all guarantees, and the evidence for each violation."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from app.chaos.audit import Finding, Observations, check_guarantees, invalid_executions, recovery_times
from app.chaos.events.audit import check_events
from app.chaos.faults import pid_of

TARGET_S = (1.5, 3.0)
"""Targets for p50 and p99 of the recovery time, in seconds."""
MAX_LINES = 5
"""Lines of evidence that are printed for each violation."""
_ERROR = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b")
"""The last line of a traceback."""
DEAD = "recovery.dead"
"""The log event of a worker that detects the death of other workers; `workers` are their ids."""
REFUSED = "run.dropped"
"""The log event of a worker whose write is refused because another worker holds the run."""


@dataclass(frozen=True, slots=True)
class Logs:
    """Figures from the logs of all processes.

    Attributes:
        refused: Number of writes that were refused because the worker had lost the run.
        errors: Number of logged errors, by kind.
        dead: (pid, time) of workers that other workers considered dead.
    """

    refused: int
    errors: Counter[str]
    dead: list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class ChaosReport:
    """The result of a chaos run.

    Attributes:
        unexpected_exits: Processes that ended without a fault, as text.
        client_errors: Number of errors that clients met, by kind.
        disconnects: Number of connections that subscribers aborted.
        misjudged: Number of live workers that other workers considered dead.
        p99_s: The limit for the p99 of the recovery time, in seconds.
    """

    observations: Observations
    findings: list[Finding]
    logs: Logs
    faults: Counter[str]
    unexpected_exits: list[str]
    client_errors: Counter[str]
    disconnects: int
    misjudged: int
    p99_s: float

    @property
    def violations(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.evidence]

    @property
    def is_slow(self) -> bool:
        """Whether the p99 of the recovery time exceeds its limit."""
        first, _ = recovery_times(self.observations)
        return bool(first) and percentile(first, 0.99) > self.p99_s

    @property
    def has_passed(self) -> bool:
        return not self.violations and not self.is_slow


def create_report(
    observations: Observations,
    logs: Logs,
    faults: Sequence[str],
    unexpected_exits: list[str],
    client_errors: Counter[str],
    disconnects: int,
    ended_at: Mapping[int, float],
    p99_s: float,
) -> ChaosReport:
    """Check all guarantees, and create the report.

    Args:
        faults: The name of each injected fault.
        ended_at: The time at which each process ended, by pid.
    """
    misjudged = sum(at < ended_at.get(pid, at + 1) and pid not in observations.frozen for pid, at in logs.dead)
    events = check_events(observations.sent, observations.history.runs)
    findings, counts = [*check_guarantees(observations), *events], Counter(faults)
    return ChaosReport(
        observations, findings, logs, counts, unexpected_exits, client_errors, disconnects, misjudged, p99_s
    )


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that a share `part` of the sorted `values` does not exceed."""
    return values[min(int(part * len(values)), len(values) - 1)]


def read_logs(paths: Sequence[Path]) -> Logs:
    """Read the JSON logs of all processes."""
    refused, errors, dead = 0, Counter[str](), list[tuple[int, float]]()
    for path in paths:
        name = path.stem.partition("-")[0]
        for entry in _entries(path.read_text(errors="replace").splitlines()):
            refused += entry.get("event") == REFUSED
            if entry.get("event") == DEAD:
                at = datetime.fromisoformat(entry["timestamp"]).timestamp()
                dead += [(pid_of(worker_id), at) for worker_id in entry["workers"]]
            if entry.get("level") in ("error", "critical"):
                errors[f"{name}: {entry.get('event')} {_cause(entry)}".strip()] += 1
    return Logs(refused, errors, dead)


def _entries(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the log entries.

    Lines that are not JSON come from a process that crashed. The last line of a traceback becomes
    an entry of level error, and other lines are left out.
    """
    for line in lines:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            if _ERROR.match(line):
                yield {"level": "error", "event": line[:160]}
            continue
        if isinstance(entry, dict):
            yield entry


def _cause(entry: dict[str, Any]) -> str:
    trace = str(entry.get("exception") or "").strip().splitlines()
    return (trace[-1] if trace else str(entry.get("error", "")))[:120]


def print_report(report: ChaosReport, console: Console) -> None:
    """Print the table, the evidence for violations, and further figures."""
    table = Table(title="The chaos suite", title_justify="left", box=SIMPLE_HEAD)
    columns: list[tuple[str, JustifyMethod]] = [("", "left"), ("measured", "right"), ("limit", "right"), ("", "left")]
    for heading, justify in columns:
        table.add_column(heading, justify=justify)
    runs = report.observations.history.runs.values()
    table.add_row("runs accepted", str(len(report.observations.started)), "", "")
    table.add_row("child runs", str(sum(run.parent_id is not None for run in runs)), "", "")
    sent = report.observations.sent
    for workflow_id, kind in sent.kinds.items():
        table.add_row(f"events of a {kind}", str(len(sent.keys[workflow_id])), "", "")
    table.add_row("messages to an endpoint", str(len(sent.messages)), "", "")
    table.add_row("terminal", str(sum(run.is_over for run in runs)), "", "")
    for finding in report.findings:
        count = len(finding.evidence)
        table.add_row(finding.guarantee, str(count), "0", "[red]VIOLATED[/red]" if count else "[green]ok[/green]")
    table.add_row("zombie writes refused", str(report.logs.refused), "", "")
    table.add_row("live workers considered dead", str(report.misjudged), "", "")
    table.add_row("nodes started by zombies", str(len(invalid_executions(report.observations).by_zombies)), "", "")
    _add_recovery(table, report)
    console.print(table)
    _print_evidence(report, console)
    _print_figures(report, console)


def _add_recovery(table: Table, report: ChaosReport) -> None:
    first, each = recovery_times(report.observations)
    if not first:
        table.add_row("recovery after SIGKILL", "none measured", "", "")
        return
    p99_result = "[red]TOO SLOW[/red]" if report.is_slow else "[green]ok[/green]"
    p50, p99 = (f"{percentile(first, part):.2f} s" for part in (0.5, 0.99))
    p50_result = _target_result(first, 0.5, TARGET_S[0])
    table.add_row(f"recovery p50 of {len(first)} SIGKILLs", p50, f"{TARGET_S[0]} s", p50_result)
    table.add_row("recovery p99", p99, f"{report.p99_s} s", p99_result)
    p50, p99 = (f"{percentile(each, part):.2f} s" for part in (0.5, 0.99))
    table.add_row(f"recovery p50 and p99 of all {len(each)} interrupted runs", f"{p50}, {p99}", "", "")


def _target_result(values: Sequence[float], part: float, target: float) -> str:
    return "[green]ok[/green]" if percentile(values, part) <= target else "[yellow]missed[/yellow]"


def _print_evidence(report: ChaosReport, console: Console) -> None:
    for finding in report.violations:
        console.print(f"[red]{finding.guarantee}[/red]: {len(finding.evidence)}")
        for line in finding.evidence[:MAX_LINES]:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def _print_figures(report: ChaosReport, console: Console) -> None:
    """Print figures that violate no guarantee, but show how the system behaved."""
    faults = ", ".join(f"{count} × {name}" for name, count in sorted(report.faults.items()))
    claims = Counter(run.attempt for run in report.observations.history.runs.values())
    repeated = {number: count for number, count in sorted(claims.items()) if number > 1}
    lines = [
        f"faults: {faults}; {report.disconnects} client connections aborted",
        f"runs claimed more than once, by number of claims: {repeated}",
    ]
    if report.unexpected_exits:
        lines.append(f"processes that ended without a fault: {', '.join(report.unexpected_exits)}")
    for name, counts in (("errors logged", report.logs.errors), ("errors of clients", report.client_errors)):
        lines += [f"{name}: {count} × {escape(text)}" for text, count in counts.most_common(8)]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
