"""Generates docs/metrics.md from the metrics of `engine/metrics.py` and the alert rules (`make docs`).

A test checks that the committed page is up to date.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client.metrics import MetricWrapperBase

import engine.metrics

HEAD = """\
# Metrics

`make docs` generates this page from `engine/metrics.py`, and its alerts from `deploy/grafana/alerts.yaml`.
[operations.md](operations.md#metrics) says how to scrape them. All have the text format of
Prometheus. Metrics of the database are the same on every server, so queries use `max`. No label has an
id. A label whose values authors choose (`code`, `model`) has at most 100; further ones are `OTHER`.
Counters of a process begin at 0 when it starts.

The values of `process_*` and `python_info` are those of the process.
"""
SUFFIXES = {"counter": "_total"}
SOURCE = Path(engine.metrics.__file__)
ALERTS = Path(__file__).parents[2] / "deploy" / "grafana" / "alerts.yaml"
GROUP = re.compile(r"^# (.+)\.$")


def render_page() -> str:
    """Render the whole page as Markdown."""
    sections = ("\n".join(["", *_section(name, metrics)]) for name, metrics in groups().items())
    return HEAD + "".join(sections)


def groups() -> dict[str, list[MetricWrapperBase]]:
    """Return the metrics by the comment above their group, in the order of the module."""
    found: dict[str, list[MetricWrapperBase]] = {}
    lines = SOURCE.read_text("utf-8").splitlines()
    for statement in ast.parse("\n".join(lines)).body:
        comment = GROUP.match(lines[statement.lineno - 2])
        if comment:
            found[comment[1]] = []
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            value = getattr(engine.metrics, statement.targets[0].id)
            if isinstance(value, MetricWrapperBase):
                found[list(found)[-1]].append(value)
    return found


def _section(name: str, metrics: list[MetricWrapperBase]) -> Iterator[str]:
    yield f"## {name}\n"
    yield "| Metric | Type | Labels | Meaning | Alerts |\n|---|---|---|---|---|"
    for metric in metrics:
        [family] = metric.describe()
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        alerts = ", ".join(f"[{alert}](runbook.md#{alert.lower()})" for alert in alerts_of(family.name))
        name = family.name + SUFFIXES.get(family.type, "")
        yield f"| `{name}` | {family.type} | {labels} | {family.documentation} | {alerts} |"
    yield ""


def alerts_of(name: str) -> list[str]:
    """Return the alerts whose rules use a metric."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]
    return [rule["alert"] for rule in rules if re.search(rf"\b{name}(_total|_bucket|_sum|_count)?\b", rule["expr"])]


if __name__ == "__main__":
    sys.stdout.write(render_page())
