"""A system with secrets, and a record of everything that it sends: responses, events and states."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.support.client_actions import mutate, wait_for_status
from tests.end_to_end.support.secret_workflows import ROWS, SECRETS, Row, forms_in
from tests.end_to_end.support.system import RUN, SystemUnderTest
from tests.peers.http import Peer

STATE = """nodeId label type status progress message visits attempt input output partialOutput usage { model }
  error { nodeId code message retryable details }"""
EVENT = f"""__typename seq nodeId
  ... on RunStatusChanged {{ status message }}
  ... on NodeStateChanged {{ nodeState {{ {STATE} }} }}
  ... on LogRecorded {{ level message fields }}
  ... on NodeOutputDelta {{ offset text }}
  ... on CheckpointSaved {{ checkpoint {{ state nextNodes }} }}"""
EVENTS = f"subscription ($id: ID!) {{ runEvents(runId: $id, after: 0) {{ {EVENT} }} }}"
STATES = f"subscription ($id: ID!) {{ nodeStates(runId: $id) {{ seq progress nodeState {{ {STATE} }} }} }}"
WHOLE = f"""query ($id: ID!) {{ run(id: $id) {{
  status statusMessage inputs output error {{ code message details }} nodeStates {{ {STATE} }} version {{ spec }}
  waits {{ nodeId ... on InputWait {{ waitId prompt schema }} }} events(first: 1000) {{ nodes {{ {EVENT} }} }}
  logs(first: 1000) {{ nodes {{ message fields }} }} checkpoints {{ nodes {{ state }} }} }} }}"""
TEST_NODE = """mutation ($i: TestNodeInput!) { testNode(input: $i) { output port input partialOutput logs
  waitingFor { prompt schema }
  usage { model } error { code message details } errors { detail } } }"""
FAULTY = """
from typing import Any

from pydantic import Field
from treadle import NodeConfig, NodeType

class FaultyConfig(NodeConfig):
    output: Any = Field(json_schema_extra={"format": "template"})

class Faulty(NodeType[FaultyConfig]):
    name, title, description, Config = "faulty", "Faulty", "Raises its input.", FaultyConfig
    example = {"output": 1}

    async def execute(self, config, ctx):
        value = ctx.render(config.output)
        try:
            raise KeyError(value)
        except KeyError as error:
            raise RuntimeError(f"{value!r} cannot be used") from error
"""


@dataclass
class RecordedSystem:
    """A system with secrets, and everything that it has sent.

    Attributes:
        log: The file with the output of all processes.
        child: The workflow that `subworkflow` nodes run.
        outputs: (name of the row, text) of everything that the system has sent.
        finished_rows: The rows that were run here and tested by `testNode`.
    """

    system: SystemUnderTest
    peer: Peer
    log: Path
    child: str = ""
    outputs: list[tuple[str, str]] = field(default_factory=list)
    finished_rows: set[str] = field(default_factory=set)

    async def execute(self, row: str, query: str, **variables: Any) -> Any:
        """Execute an operation, and record its response under the name of a row."""
        data = await self.system.execute(query, **variables)
        self.outputs.append((row, json.dumps(data, ensure_ascii=False)))
        return data

    async def record(self, row: str, subscription: str, run_id: str) -> None:
        """Record the messages of a subscription until the run has ended."""
        async for data in self.system.subscribe(subscription, id=run_id):
            self.outputs.append((row, json.dumps(data, ensure_ascii=False)))

    @asynccontextmanager
    async def recording(self, row: str, run_id: str) -> AsyncIterator[None]:
        """Record the subscriptions of a run during the block and until the run has ended."""
        async with asyncio.TaskGroup() as group:
            for subscription in (EVENTS, STATES):
                group.create_task(self.record(row, subscription, run_id))
            yield

    def spec(self, row: Row) -> dict[str, Any]:
        text = json.dumps(row.spec(self.peer)).replace("{child}", self.child)
        spec: dict[str, Any] = json.loads(text)
        return spec

    def leaks(self, row: str) -> list[tuple[list[str], str]]:
        """Return (forms of secrets, text) of each recorded text of a row that contains a secret."""
        return [(forms, text) for name, text in self.outputs if name == row and (forms := forms_in(text))]


def package(folder: Path) -> str:
    """Write an installed package whose node type raises its input, and return its folder."""
    (folder / "faulty.py").write_text(FAULTY)
    metadata = folder / "faulty-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[treadle.nodes]\nfaulty = faulty:Faulty\n")
    return str(folder)


def catalog() -> str:
    python = json.dumps(sys.executable)
    return f'[mcp.desk]\ncommand = {python}\nargs = ["-P", "tests/peers/mcp_server.py", "stdio"]\n'


async def set_up(recorded: RecordedSystem) -> None:
    """Set the secrets, and create a workflow that uses one, for `subworkflow` nodes."""
    for name, value in SECRETS.items():
        payload = await mutate(
            recorded.system, "setSecret", "secret { name } errors { detail }", name=name, value=value
        )
        assert payload == {"secret": {"name": name}, "errors": []}
    spec = ROWS["code: returns"].spec(recorded.peer)
    payload = await mutate(
        recorded.system, "createWorkflow", "workflow { id } errors { detail }", name="child", spec=spec
    )
    recorded.child = payload["workflow"]["id"]


async def run_and_test_row(recorded: RecordedSystem, name: str) -> Any:
    """Run a row as `run_row` does, test its node by `testNode`, and return the run."""
    row = ROWS[name]
    run = await run_row(recorded, name)
    await recorded.execute(name, TEST_NODE, i={"type": row.type, "config": recorded.spec(row)["nodes"][0]["config"]})
    recorded.finished_rows.add(name)
    return run


async def run_row(recorded: RecordedSystem, name: str) -> Any:
    """Run a row, record everything that is sent about the run, and return the run after its end."""
    row = ROWS[name]
    payload = await recorded.execute(name, RUN, input={"spec": recorded.spec(row), "mode": "ASYNC"})
    if row.code == "SECRET":
        return payload["runAdhoc"]
    run_id = payload["runAdhoc"]["run"]["id"]
    async with asyncio.timeout(60), recorded.recording(name, run_id):
        if row.type == "human":
            await wait_for_status(recorded.system, run_id, "WAITING")
            run = (await recorded.execute(name, WHOLE, id=run_id))["run"]
            answer = {"runId": run_id, "waitId": run["waits"][0]["waitId"], "answer": {"ok": True}}
            assert (await mutate(recorded.system, "resumeRun", **answer))["errors"] == []
    return (await recorded.execute(name, WHOLE, id=run_id))["run"]
