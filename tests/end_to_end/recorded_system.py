"""A system with the canary's secrets in it, and all that it tells anybody: answers, events and states."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.client_actions import do, until
from tests.end_to_end.secret_workflows import ROWS, SECRETS, Row, found_in
from tests.end_to_end.system import RUN, System
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
TRY = """mutation ($i: TestNodeInput!) { testNode(input: $i) { output port input partialOutput logs waitingFor { prompt schema }
  usage { model } error { code message details } errors { detail } } }"""
FAULTY = """
from engine.sdk.node import NodeConfig, NodeType
from engine.nodes.transform import TransformConfig

class Faulty(NodeType[TransformConfig]):
    name, title, description, Config = "faulty", "Faulty", "Is not as it should be.", TransformConfig
    example = {"output": 1}

    async def execute(self, config, ctx):
        value = ctx.render(config.output)
        try:
            raise KeyError(value)
        except KeyError as error:
            raise RuntimeError(f"{value!r} cannot be used") from error
"""


@dataclass
class Watched:
    """A system with the secrets in it, and all that it has told anybody."""

    system: System
    peer: Peer
    log: Path
    child: str = ""
    told: list[tuple[str, str]] = field(default_factory=list)
    played: set[str] = field(default_factory=set)
    """The rows that have been run here, and tried by testNode."""

    async def ask(self, what: str, query: str, **variables: Any) -> Any:
        answer = await self.system.ask(query, **variables)
        self.told.append((what, json.dumps(answer, ensure_ascii=False)))
        return answer

    async def follow(self, what: str, subscription: str, run_id: str) -> None:
        """Until the run rests for good, or nobody listens any more."""
        async for answer in self.system.follow(subscription, id=run_id):
            self.told.append((what, json.dumps(answer, ensure_ascii=False)))

    @asynccontextmanager
    async def watching(self, what: str, run_id: str) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for subscription in (EVENTS, STATES):
                group.create_task(self.follow(what, subscription, run_id))
            yield

    def spec(self, row: Row) -> dict[str, Any]:
        text = json.dumps(row.spec(self.peer)).replace("{child}", self.child)
        spec: dict[str, Any] = json.loads(text)
        return spec

    def wrong(self, what: str) -> list[tuple[list[str], str]]:
        return [(found, text) for of, text in self.told if of == what and (found := found_in(text))]


def package(folder: Path) -> str:
    """A folder with an installed package, whose node type raises what it was given."""
    (folder / "faulty.py").write_text(FAULTY)
    facts = folder / "faulty-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[treadle.nodes]\nfaulty = faulty:Faulty\n")
    return str(folder)


def catalog() -> str:
    python = json.dumps(sys.executable)
    return f'[mcp.desk]\ncommand = {python}\nargs = ["-P", "tests/peers/mcp_server.py", "stdio"]\n'


async def set_all(watched: Watched) -> None:
    """The secrets, and a workflow whose node uses one, to be run by others."""
    for name, value in SECRETS.items():
        made = await do(watched.system, "setSecret", "secret { name } errors { detail }", name=name, value=value)
        assert made == {"secret": {"name": name}, "errors": []}
    spec = ROWS["transform: in texts"].spec(watched.peer)
    made = await do(watched.system, "createWorkflow", "workflow { id } errors { detail }", name="child", spec=spec)
    watched.child = made["workflow"]["id"]


async def play(watched: Watched, name: str) -> Any:
    """The row's run, as `run_row`; and its node is tried by testNode."""
    row = ROWS[name]
    run = await run_row(watched, name)
    await watched.ask(name, TRY, i={"type": row.type, "config": watched.spec(row)["nodes"][0]["config"]})
    watched.played.add(name)
    return run


async def run_row(watched: Watched, name: str) -> Any:
    """The run once it rests, with all that is told of it meanwhile and afterwards."""
    row = ROWS[name]
    begun = await watched.ask(name, RUN, input={"spec": watched.spec(row), "mode": "ASYNC"})
    if row.code == "SECRET":
        return begun["runAdhoc"]
    run_id = begun["runAdhoc"]["run"]["id"]
    async with asyncio.timeout(60), watched.watching(name, run_id):
        if row.type == "human":
            await until(watched.system, run_id, "WAITING")
            run = (await watched.ask(name, WHOLE, id=run_id))["run"]
            answer = {"runId": run_id, "waitId": run["waits"][0]["waitId"], "answer": {"ok": True}}
            assert (await do(watched.system, "resumeRun", **answer))["errors"] == []
    return (await watched.ask(name, WHOLE, id=run_id))["run"]
