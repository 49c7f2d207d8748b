"""The initial tabs of GraphiQL work when they are executed one after the other."""

import json
from typing import Any

from tests.end_to_end.support.system import ROOT, SystemUnderTest

OPERATIONS = ROOT / "web" / "src" / "graphiql" / "operations"


def tab(name: str) -> tuple[str, dict[str, Any]]:
    """Return the operation of a tab and its variables."""
    file = OPERATIONS / f"{name}.json"
    variables = json.loads(file.read_text()) if file.exists() else {}
    return (OPERATIONS / f"{name}.graphql").read_text(), variables


async def test_each_tab_works_as_its_text_describes(system: SystemUnderTest) -> None:
    query, variables = tab("run_adhoc")
    run_id = (await system.execute(query, **variables))["runAdhoc"]["run"]["id"]

    query, _ = tab("follow_run")
    updates = [update["nodeStates"] async for update in system.subscribe(query, runId=run_id)]
    assert updates[-1]["runStatus"] == "COMPLETED"
    assert updates[-1]["run"]["output"] == {"reply": "11 words: worth a thought.", "words": 11}

    query, _ = tab("read_run")
    run = (await system.execute(query, runId=run_id))["run"]
    assert (run["status"], len(run["events"]["nodes"]) > 0) == ("COMPLETED", True)

    query, variables = tab("list_runs")
    assert (await system.execute(query, **variables))["runs"]["nodes"][0]["id"] == run_id

    query, variables = tab("validate_spec")
    assert len((await system.execute(query, **variables))["validateSpec"]["errors"]) == 3
