"""The tabs of a first visit, run one after the other as a newcomer does."""

import json
from typing import Any

from tests.end_to_end.system import ROOT, System

OPERATIONS = ROOT / "web" / "src" / "operations"


def tab(name: str) -> tuple[str, dict[str, Any]]:
    variables = OPERATIONS / f"{name}.json"
    given = json.loads(variables.read_text()) if variables.exists() else {}
    return (OPERATIONS / f"{name}.graphql").read_text(), given


async def test_each_tab_does_what_it_says(system: System) -> None:
    query, given = tab("run_adhoc")
    run_id = (await system.ask(query, **given))["runAdhoc"]["run"]["id"]

    query, _ = tab("follow_run")
    updates = [update["nodeStates"] async for update in system.follow(query, runId=run_id)]
    assert updates[-1]["runStatus"] == "COMPLETED"
    assert updates[-1]["run"]["output"] == {"reply": "11 words: worth a thought.", "words": 11}

    query, _ = tab("read_run")
    run = (await system.ask(query, runId=run_id))["run"]
    assert (run["status"], len(run["events"]["nodes"]) > 0) == ("COMPLETED", True)

    query, given = tab("list_runs")
    assert (await system.ask(query, **given))["runs"]["nodes"][0]["id"] == run_id

    query, given = tab("validate_spec")
    assert len((await system.ask(query, **given))["validateSpec"]["errors"]) == 3
