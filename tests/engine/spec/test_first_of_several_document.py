"""The example "First of several" in docs/spec.md names who has answered, also with a false value."""

import json
import re
from typing import Any

import pytest

from engine.states import NodeStatus, RunStatus
from engine.types import JSON
from engine.validation.validator import validate
from tests.engine.memory_runs import TYPES, run
from tests.paths import ROOT

SECTION = (ROOT / "docs" / "spec.md").read_text().split("### First of several")[1]
SPEC: dict[str, Any] = json.loads(re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)[0])


def test_the_example_has_neither_errors_nor_warnings() -> None:
    report = validate(SPEC, TYPES)
    assert (report.errors, report.warnings) == ([], [])


@pytest.mark.parametrize("answer", [False, {}, "", True])
@pytest.mark.parametrize(("name", "by"), [("ada", "Ada"), ("bob", "Bob")])
async def test_the_first_answer_counts_whatever_it_is(name: str, by: str, answer: JSON) -> None:
    answered = {"id": name, "type": "transform", "config": {"output": answer}}
    nodes = [answered if node["id"] == name else node for node in SPEC["nodes"]]
    ended = await run({**SPEC, "nodes": nodes}, {"what": "it"})
    assert (ended.status, ended.output) == (RunStatus.COMPLETED, {"by": by}), ended.error
    assert ended.states["tomorrow"].status is NodeStatus.CANCELLED
