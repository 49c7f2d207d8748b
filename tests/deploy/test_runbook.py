"""Each alert links to its section of the runbook, and the runbook names what exists."""

import re

import pytest
import yaml

from app.cli.main import app
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "runbook.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
GROUPS = yaml.safe_load((ROOT / "deploy/grafana/alerts.yaml").read_text("utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}


def commands() -> set[str]:
    groups = [app.registered_commands, *(group.typer_instance.registered_commands for group in app.registered_groups)]
    return {
        one.name or one.callback.__name__.replace("_", "-") for group in groups for one in group if one.callback
    } | {"key"}


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert list(SECTIONS) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_links_to_its_section(name: str) -> None:
    assert ALERTS[name]["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_all_parts_and_names_commands_that_exist(name: str) -> None:
    assert re.findall(r"^\*\*(\w+)", SECTIONS[name], re.MULTILINE) == ["Effect", "Look", "Do", "Over"]
    assert set(re.findall(r"`treadle ([a-z-]+)", SECTIONS[name])) <= commands()


def test_the_log_lines_and_metrics_of_the_runbook_exist() -> None:
    folders = ("app", "engine", "persistence", "resolvers", "schema", "worker")
    code = "".join(path.read_text("utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py"))
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", TEXT)) | set(re.findall(r"`(treadle_\w+)`", TEXT))
    assert len(named) > 4
    assert [one for one in sorted(named) if f'"{one}' not in code] == []
