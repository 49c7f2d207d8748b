"""Runs of exposed workflows over plain HTTP, and the OpenAPI document of a real server."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case

from tests.end_to_end.support.client_actions import mutate
from tests.end_to_end.support.system import ROOT, SystemUnderTest

INPUTS = {
    "type": "object",
    "properties": {"n": {"$ref": "#/$defs/number"}, "note": {"type": "string", "maxLength": 20}},
    "required": ["n"],
    "additionalProperties": False,
    "$defs": {"number": {"type": "integer", "minimum": 0, "maximum": 1000}},
}
QUESTION = {"id": "ask", "type": "human", "config": {"prompt": "Well?"}}


def transform(output: Any) -> dict[str, Any]:
    return {"id": "a", "type": "transform", "config": {"output": output}}


SPECS: dict[str, dict[str, Any]] = {
    "double": {
        "inputs": INPUTS,
        "nodes": [transform("{{ input.n * 2 }}")],
        "edges": [],
        "outputs": {"doubled": "{{ a.output }}"},
    },
    "breaks": {"nodes": [transform("{{ '!' | fromjson }}")], "edges": []},
    "asks": {"nodes": [QUESTION], "edges": []},
}


@pytest.fixture(scope="module")
async def exposed(system: SystemUnderTest) -> SystemUnderTest:
    """The system, with a published workflow for each spec that is exposed under its name."""
    for name, spec in SPECS.items():
        workflow = (await mutate(system, "createWorkflow", "workflow { id }", name=name, spec=spec))["workflow"]["id"]
        version = await mutate(system, "createVersion", "errors { detail }", workflowId=workflow, publish=True)
        assert version["errors"] == []
        changed = await mutate(
            system, "updateWorkflow", "errors { detail }", id=workflow, expose={"name": name, "http": True}
        )
        assert changed["errors"] == []
    return system


@pytest.fixture
async def client(exposed: SystemUnderTest) -> AsyncIterator[httpx.AsyncClient]:
    base_url = f"http://127.0.0.1:{exposed.port}"
    async with httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=60) as client:
        yield client


async def test_a_call_returns_the_output_of_the_run_and_its_address(client: httpx.AsyncClient) -> None:
    response = await client.post("/run/double", json={"n": 4})
    run = response.json()
    assert (response.status_code, run["status"], run["output"]) == (200, "COMPLETED", {"doubled": 8})
    again = await client.get(response.headers["location"])
    assert (again.status_code, again.json()) == (200, run)


async def test_a_call_that_does_not_wait_returns_the_address_of_the_run(
    exposed: SystemUnderTest, client: httpx.AsyncClient
) -> None:
    response = await client.post("/run/double", json={"n": 4}, headers={"Prefer": "respond-async"})
    assert (response.status_code, response.headers["retry-after"]) == (202, "1")
    await exposed.wait_for_end(response.json()["runId"])
    assert (await client.get(response.headers["location"])).json()["output"] == {"doubled": 8}


async def test_simultaneous_calls_with_one_key_are_one_run(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order-1"}
    calls = [client.post("/run/double", json={"n": 5}, headers=key) for _ in range(5)]
    assert len({response.json()["runId"] for response in await asyncio.gather(*calls)}) == 1
    other = await client.post("/run/double", json={"n": 6}, headers=key)
    assert (other.status_code, other.json()["errors"][0]["extensions"]["code"]) == (409, "CONFLICT")


async def test_a_run_that_fails_is_an_error_of_the_server_with_its_reason(client: httpx.AsyncClient) -> None:
    response = await client.post("/run/breaks")
    run = response.json()
    assert (response.status_code, run["status"], run["output"]) == (500, "FAILED", None)
    assert (run["error"]["code"], run["error"]["nodeId"]) == ("TEMPLATE", "a")


async def test_a_run_that_waits_for_a_person_shows_its_question_and_can_be_cancelled(client: httpx.AsyncClient) -> None:
    response = await client.post("/run/asks")
    [question] = response.json()["questions"]
    assert (response.status_code, question["nodeId"], question["prompt"]) == (202, "ask", "Well?")
    cancelled = await client.post(f"{response.headers['location']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"], cancelled.json()["questions"]) == (200, "CANCELLED", [])


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("POST", "/run/double", {"json": {}}, 422, "VALIDATION"),
        ("POST", "/run/double", {"json": {"n": "4"}}, 422, "VALIDATION"),
        ("POST", "/run/double", {"json": [1]}, 422, "VALIDATION"),
        ("POST", "/run/double", {"content": "{", "headers": {"content-type": "application/json"}}, 400, "VALIDATION"),
        ("POST", "/run/double", {"content": "n=4", "headers": {"content-type": "text/plain"}}, 415, "VALIDATION"),
        ("POST", "/run/double", {"json": {"n": 4}, "headers": {"Prefer": "wait=601"}}, 400, "VALIDATION"),
        ("POST", "/run/double", {"json": {"n": 4}, "headers": {"Idempotency-Key": ""}}, 422, "VALIDATION"),
        ("POST", "/run/double?project=prj_x", {"json": {"n": 4}}, 404, "NOT_FOUND"),
        ("POST", "/run/unknown", {"json": {}}, 404, "NOT_FOUND"),
        ("POST", "/run/double", {"json": {"n": 4}, "headers": {"Origin": "https://evil.example"}}, 403, "FORBIDDEN"),
        ("GET", "/run/double", {}, 405, "VALIDATION"),
        ("GET", "/run/runs/run_x", {}, 404, "NOT_FOUND"),
        ("GET", "/run/runs/run_%00", {}, 400, "VALIDATION"),
        ("POST", "/run/double?project=%00", {"json": {"n": 4}}, 400, "VALIDATION"),
        ("POST", "/run/runs/run_x/cancel", {}, 404, "NOT_FOUND"),
    ],
)
async def test_a_request_that_is_refused_says_why(
    client: httpx.AsyncClient, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    response = await client.request(method, path, **options)
    [error] = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"]) == (status, code), response.text


async def test_the_document_is_openapi_and_every_generated_request_gets_a_response_of_it(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/run/openapi.json")).json()
    names = set(document["paths"])
    assert {f"/run/{name}" for name in SPECS} < names
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()

    def check(method: str, path: str) -> None:
        @settings(
            max_examples=3,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        @given(schema[path][method].as_strategy())
        def call(case: Case) -> None:
            # The run of an accepted request may fail (500), which the document says.
            case.call_and_validate(base_url=str(client.base_url), excluded_checks=_FAILED_RUNS)

        call()

    for path in names - {"/run/asks"}:
        for method in document["paths"][path]:
            await asyncio.to_thread(check, method, path)


async def test_the_commands_of_the_page_work(exposed: SystemUnderTest) -> None:
    page = (ROOT / "docs" / "http_runs.md").read_text("utf-8").replace("127.0.0.1:8000", f"127.0.0.1:{exposed.port}")
    started, read, document = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert json.loads(await shell(started))["output"] == {"doubled": 8}
    assert '"status":' in await shell(read)
    assert json.loads(await shell(document))["openapi"] == "3.1.0"


async def shell(block: str) -> str:
    process = await asyncio.create_subprocess_exec("bash", "-euc", block, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


_FAILED_RUNS = [schemathesis.checks.not_a_server_error]
