"""`treadle run`: submits a spec and shows its nodes as they change, over the same API as everybody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.live import Live
from rich.table import Table
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

_RUN = """
mutation ($input: RunAdhocInput!) {
  runAdhoc(input: $input) {
    run { id nodeStates { nodeId label type status progress } }
    errors { detail ... on ValidationProblem { errors { field message } } }
  }
}
"""
_STATES = """
subscription ($run: ID!, $after: Int) {
  nodeStates(runId: $run, after: $after) {
    seq runStatus progress
    nodeState { nodeId label type status progress message visits durationMs error { message } }
  }
}
"""
_END = "query ($run: ID!) { run(id: $run) { status output durationMs error { nodeId code message } } }"
_COLOURS = {"COMPLETED": "green", "FAILED": "red", "RUNNING": "cyan", "SKIPPED": "dim", "WAITING": "yellow"}
RECONNECT_S = 0.5


class RunRefused(Exception):
    """The server does not take the run, or is not there; the message says why."""


async def follow(host: str, spec: Any, inputs: Any, *, watch: bool) -> str:
    """Runs the spec and prints how it ended. Returns the run's last status."""
    console = Console()
    async with httpx.AsyncClient(base_url=f"http://{host}", trust_env=False, timeout=30) as client:
        run = await _submit(client, spec, inputs)
        console.print(f"run [bold]{run['id']}[/bold]")
        states = {state["nodeId"]: state for state in run["nodeStates"]}
        with Live(console=console, auto_refresh=False) if watch else nullcontext() as live:
            async for update in _updates(host, run["id"]):
                if (state := update["nodeState"]) is not None:
                    states[state["nodeId"]] = state
                if live is not None:
                    live.update(_table(states, update["runStatus"], update["progress"]), refresh=True)
        if watch and not console.is_terminal:
            console.line()  # Where nothing can be redrawn, Live leaves the table's last line open.
        ended = (await _ask(client, _END, {"run": run["id"]}))["run"]
    _conclude(console, ended)
    return str(ended["status"])


def _conclude(console: Console, ended: dict[str, Any]) -> None:
    console.print(f"{ended['status']} in {ended['durationMs'] or 0:.0f} ms")
    if ended["error"]:
        error = ended["error"]
        console.print(f"{error['code']} at {error['nodeId'] or 'the run'}: {error['message']}", markup=False)
    else:
        console.print_json(orjson.dumps(ended["output"]).decode())


async def _submit(client: httpx.AsyncClient, spec: Any, inputs: Any) -> dict[str, Any]:
    payload = (await _ask(client, _RUN, {"input": {"spec": spec, "inputs": inputs}}))["runAdhoc"]
    if payload["errors"]:
        lines = [problem["detail"] for problem in payload["errors"]]
        lines += [f"  {one['field']}: {one['message']}" for p in payload["errors"] for one in p.get("errors", [])]
        raise RunRefused("\n".join(lines))
    run: dict[str, Any] = payload["run"]
    return run


async def _ask(client: httpx.AsyncClient, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    except httpx.TransportError as wrong:
        raise RunRefused(f"nothing answers at {client.base_url}: is `make up` running? ({wrong})") from wrong
    if answer.get("errors"):
        raise RunRefused("; ".join(error["message"] for error in answer["errors"]))
    data: dict[str, Any] = answer["data"]
    return data


async def _updates(host: str, run_id: str) -> AsyncIterator[dict[str, Any]]:
    """Node states until the run ends. A lost connection is made again, and goes on from the last number seen."""
    after: int | None = None
    while True:
        try:
            async for update in _subscription(host, {"run": run_id, "after": after}):
                after = update["seq"]
                yield update
            return
        except (OSError, ConnectionClosed):
            await asyncio.sleep(RECONNECT_S)


async def _subscription(host: str, variables: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The graphql-transport-ws protocol, for one subscription."""
    async with connect(f"ws://{host}/graphql", subprotocols=["graphql-transport-ws"], proxy=None) as socket:  # type: ignore[list-item]
        await socket.send(orjson.dumps({"type": "connection_init"}).decode())
        async for raw in socket:
            message = orjson.loads(raw)
            if message["type"] == "connection_ack":
                request = {"query": _STATES, "variables": variables}
                await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": request}).decode())
            elif message["type"] == "next":
                if message["payload"].get("errors"):
                    raise RunRefused(message["payload"]["errors"][0]["message"])
                yield message["payload"]["data"]["nodeStates"]
            elif message["type"] == "error":
                raise RunRefused(message["payload"][0]["message"])
            elif message["type"] == "complete":
                return


def _table(states: dict[str, dict[str, Any]], status: str, progress: float) -> Table:
    table = Table(title=f"{status}  {progress:.0%}", title_justify="left")
    for heading in ("node", "type", "status", "visits", "ms", ""):
        table.add_column(heading, justify="right" if heading in ("visits", "ms") else "left")
    for state in states.values():
        colour = _COLOURS.get(state["status"], "white")
        took = state.get("durationMs")
        note = (state.get("error") or {}).get("message") or state.get("message") or ""
        table.add_row(
            state["label"],
            state["type"],
            f"[{colour}]{state['status']}[/{colour}]",
            str(state.get("visits", 0) or ""),
            "" if took is None else f"{took:.1f}",
            note[:60],
        )
    return table
