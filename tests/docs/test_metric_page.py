"""docs/metrics.md has every metric with its labels and alerts, and is current."""

import re

from docs.reference.metrics import groups, render_page
from engine.metrics import REGISTRY
from tests.paths import ROOT

PAGE = render_page()


def test_the_committed_page_is_current() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text("utf-8") == PAGE, "run make docs"


def test_it_has_every_metric_of_the_registry() -> None:
    shown = {family.name for metrics in groups().values() for metric in metrics for family in metric.describe()}
    assert shown == {family.name for family in REGISTRY.collect() if family.name.startswith("treadle_")}


def test_it_links_to_every_alert() -> None:
    rules = re.findall(r"alert: (\w+)", (ROOT / "deploy/grafana/alerts.yaml").read_text("utf-8"))
    assert rules
    assert set(re.findall(r"\[(\w+)\]\(runbook\.md#", PAGE)) == set(rules)
