"""The operations in docs/stepping.md have the results that the page says, in its order."""

import json
import re
from typing import Any

from tests.end_to_end.support.client_actions import wait_for_status
from tests.end_to_end.support.system import SystemUnderTest
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "stepping.md").read_text()
SPEC = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
INPUTS = json.loads(re.findall(r"with the inputs `(\{.*\})`", PAGE)[0])
STEPS: list[tuple[str, str]] = re.findall(r"```graphql\n(.*?)```\n\n```json\n(.*?)```", PAGE, re.DOTALL)
IDS = re.compile(r"\b(run|ckp)_\w{26}")


def first_id(value: Any, prefix: str) -> str | None:
    found = re.search(rf"\b{prefix}_\w{{26}}", json.dumps(value))
    return found and found[0]


async def test_each_operation_has_the_documented_result(system: SystemUnderTest) -> None:
    variables: dict[str, Any] = {"spec": SPEC, "inputs": INPUTS}
    assert len(STEPS) == PAGE.count("```graphql") == 10
    for operation, expected in STEPS:
        used = {name: variables[name] for name in re.findall(r"\$(\w+):", operation)}
        data = await system.execute(operation, **used)
        assert json.loads(IDS.sub(r"\1_…", json.dumps(data))) == json.loads(expected), operation
        variables["runId"] = first_id(data, "run") or variables["runId"]
        variables["checkpointId"] = first_id(data, "ckp") or variables.get("checkpointId")
        if data.get("forkRun", {}).get("run"):
            status = "COMPLETED" if "stepwise: false" in operation else "PAUSED"
            await wait_for_status(system, variables["runId"], status)
