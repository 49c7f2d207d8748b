"""The table at the end, and what stands behind a broken promise."""

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

from app.chaos.audit import Finding, Gathered, findings, judged, recoveries
from app.chaos.faults import pid_of

TARGET_S = (1.5, 3.0)
"""Recovery time, p50 and p99."""
SHOWN = 5
_ERROR = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)\b")
"""The last line of a traceback."""
DEAD = "recovery.dead"
"""What a worker logs when it finds that others have died; `workers` are their ids."""
REFUSED = "run.dropped"
"""What a worker logs when a run that it drove turns out to be another's."""


@dataclass(frozen=True, slots=True)
class Logs:
    """What the processes logged: zombie writes that were refused, and errors by kind."""

    refused: int
    errors: Counter[str]
    dead: list[tuple[int, float]]
    """(pid, when) of workers that others found dead."""


@dataclass(frozen=True, slots=True)
class ChaosReport:
    seen: Gathered
    findings: list[Finding]
    logs: Logs
    faults: Counter[str]
    unasked: list[str]
    complaints: Counter[str]
    drops: int
    misjudged: int
    """Living workers that others found dead."""
    p99_s: float
    """The limit for the recovery time."""

    @property
    def broken(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.evidence]

    @property
    def is_slow(self) -> bool:
        first, _ = recoveries(self.seen)
        return bool(first) and percentile(first, 0.99) > self.p99_s

    @property
    def is_kept(self) -> bool:
        return not self.broken and not self.is_slow


def report(
    seen: Gathered,
    logs: Logs,
    faults: Sequence[str],
    unasked: list[str],
    complaints: Counter[str],
    drops: int,
    ended_at: Mapping[int, float],
    p99_s: float,
) -> ChaosReport:
    misjudged = sum(at < ended_at.get(pid, at + 1) and pid not in seen.frozen for pid, at in logs.dead)
    return ChaosReport(seen, findings(seen), logs, Counter(faults), unasked, complaints, drops, misjudged, p99_s)


def percentile(values: Sequence[float], part: float) -> float:
    """Of sorted values, the one that `part` of them do not exceed."""
    return values[min(int(part * len(values)), len(values) - 1)]


def read_logs(paths: Sequence[Path]) -> Logs:
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
    """Log entries. What is no JSON comes from a process that died while speaking: an entry for each kind of its errors."""
    for line in lines:
        try:
            read = orjson.loads(line)
        except orjson.JSONDecodeError:
            if _ERROR.match(line):
                yield {"level": "error", "event": line[:160]}
            continue
        if isinstance(read, dict):
            yield read


def _cause(entry: dict[str, Any]) -> str:
    trace = str(entry.get("exception") or "").strip().splitlines()
    return (trace[-1] if trace else str(entry.get("error", "")))[:120]


def show(report: ChaosReport, console: Console) -> None:
    table = Table(title="The kill suite", title_justify="left", box=SIMPLE_HEAD)
    columns: list[tuple[str, JustifyMethod]] = [("", "left"), ("seen", "right"), ("promised", "right"), ("", "left")]
    for heading, justify in columns:
        table.add_column(heading, justify=justify)
    runs = report.seen.history.runs.values()
    table.add_row("runs accepted", str(len(report.seen.started)), "", "")
    table.add_row("child runs", str(sum(run.parent_id is not None for run in runs)), "", "")
    table.add_row("terminal", str(sum(run.is_over for run in runs)), "", "")
    for finding in report.findings:
        count = len(finding.evidence)
        table.add_row(finding.promise, str(count), "0", "[red]BROKEN[/red]" if count else "[green]kept[/green]")
    table.add_row("zombie writes refused", str(report.logs.refused), "", "")
    table.add_row("living workers taken for dead", str(report.misjudged), "", "")
    table.add_row("nodes begun by woken zombies", str(len(judged(report.seen).by_zombies)), "", "")
    _add_recovery(table, report)
    console.print(table)
    _show_evidence(report, console)
    _show_facts(report, console)


def _add_recovery(table: Table, report: ChaosReport) -> None:
    first, each = recoveries(report.seen)
    if not first:
        table.add_row("recovery after SIGKILL", "none seen", "", "")
        return
    kept = "[red]TOO SLOW[/red]" if report.is_slow else "[green]kept[/green]"
    p50, p99 = (f"{percentile(first, part):.2f} s" for part in (0.5, 0.99))
    table.add_row(f"recovery p50 of {len(first)} SIGKILLs", p50, f"{TARGET_S[0]} s", _mark(first, 0.5, TARGET_S[0]))
    table.add_row("recovery p99", p99, f"{report.p99_s} s", kept)
    p50, p99 = (f"{percentile(each, part):.2f} s" for part in (0.5, 0.99))
    table.add_row(f"… of each of the {len(each)} runs it cut off", f"{p50}, {p99}", "", "")


def _mark(values: Sequence[float], part: float, target: float) -> str:
    return "[green]kept[/green]" if percentile(values, part) <= target else "[yellow]missed[/yellow]"


def _show_evidence(report: ChaosReport, console: Console) -> None:
    for finding in report.broken:
        console.print(f"[red]{finding.promise}[/red]: {len(finding.evidence)}")
        for line in finding.evidence[:SHOWN]:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def _show_facts(report: ChaosReport, console: Console) -> None:
    """What broke no promise, and tells how the system was doing."""
    done = ", ".join(f"{count} × {name}" for name, count in sorted(report.faults.items()))
    console.print(f"faults: {done}; {report.drops} client connections cut", highlight=False, soft_wrap=True)
    takeups = Counter(run.attempt for run in report.seen.history.runs.values())
    more = {number: count for number, count in sorted(takeups.items()) if number > 1}
    console.print(f"runs taken up more than once, by how often: {more}", highlight=False, soft_wrap=True)
    if report.unasked:
        console.print(
            f"processes that died by themselves: {', '.join(report.unasked)}", highlight=False, soft_wrap=True
        )
    for name, counted in (("errors logged", report.logs.errors), ("clients were told", report.complaints)):
        for text, count in counted.most_common(8):
            console.print(f"{name}: {count} × {escape(text)}", highlight=False, soft_wrap=True)
