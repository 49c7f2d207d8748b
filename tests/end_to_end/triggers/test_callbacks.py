"""A run waits for a callback of another system, on real processes."""

import httpx

from tests.end_to_end.support.client_actions import example, wait_for_status
from tests.end_to_end.support.system import SystemUnderTest

RUN = """mutation ($spec: JSON!, $inputs: JSON) {
  runAdhoc(input: {spec: $spec, inputs: $inputs}) { run { id } errors { detail } } }"""


async def test_a_post_to_the_callback_address_continues_the_run(system: SystemUnderTest) -> None:
    content = example("payment_callback")
    started = await system.execute(RUN, spec=content["spec"], inputs=content["exampleInputs"])
    run_id = started["runAdhoc"]["run"]["id"]
    run = await wait_for_status(system, run_id, "WAITING")
    url = next(state["output"] for state in run["nodeStates"] if state["nodeId"] == "request")["notify"]
    assert url.startswith(f"http://127.0.0.1:{system.port}/callbacks/")
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        assert (await client.post(url[:-1] + ("A" if url[-1] != "A" else "B"), json={})).status_code in (401, 404)
        assert (await client.post(url, json={"paid": "yes"})).status_code == 422
        answer = await client.post(url, json={"paid": True})
        assert (answer.status_code, answer.json()) == (202, {"runId": run_id, "status": "delivered"})
        assert (await client.get(url)).status_code == 405
    assert (await system.wait_for_end(run_id))["output"] == {"ship": "ship"}
