"""The example in docs/loops.md is valid as it stands, and gives the output that the page says."""

import json
import re

from engine.states import RunStatus
from engine.validation.validator import validate
from tests.engine.memory_runs import TYPES, run
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "loops.md").read_text()
SPEC, *_ = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
[OUTPUT] = re.findall(r"The output is `(\{.*\})`", PAGE)
VISITS = {"start": 1, "row": 3, "col": 8, "check": 8, "total": 4, "next": 3, "end": 1}


def test_the_example_has_neither_errors_nor_warnings() -> None:
    report = validate(SPEC, TYPES)
    assert (report.errors, report.warnings) == ([], [])


async def test_the_example_gives_the_documented_output_and_visits_each_node_as_the_table_says() -> None:
    ended = await run(SPEC)
    assert (ended.status, ended.output) == (RunStatus.COMPLETED, json.loads(OUTPUT)), ended.error
    assert {name: state.visits for name, state in ended.states.items()} == VISITS
