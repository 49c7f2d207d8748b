"""`treadle run`: submits a spec and shows its nodes as they change, over the same API as everybody else.

The run is the server's: it goes on when this ends, and this goes on when the server was away.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from typing import Any

import orjson
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.cli.client import AWAY, Client, RunRefused, Unanswered
from app.cli.questions import WAITS, questions, told
from engine.states import TERMINAL

_RUN = """
mutation ($input: RunAdhocInput!) {
  runAdhoc(input: $input) {
    run { id nodeStates { nodeId label type status progress } }
    errors { title detail ... on ValidationProblem { errors { field message } } }
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


class Watching:
    """One run, from its start to its end. `left` is what to say to whoever does not wait for the end."""

    def __init__(self, host: str, *, is_live: bool) -> None:
        self._client, self._is_live = Client(host), is_live
        self._console = Console()
        self._run_id: str | None = None
        self._asked: set[str] = set()
        self._states: dict[str, dict[str, Any]] = {}
        self._is_paused = self._is_lost = False

    @property
    def left(self) -> str:
        if self._run_id is None:
            return "No run was started."
        return (
            f"{self._run_id} goes on without you. On {self._client.page}, this stops it:\n"
            f'  mutation {{ cancelRun(input: {{runId: "{self._run_id}"}}) {{ run {{ status }} }} }}'
        )

    async def follow(self, spec: Any, inputs: Any) -> str:
        """Runs the spec and prints how it ended. Returns the run's last status. Raises RunRefused."""
        run = await self._submit(spec, inputs)
        self._run_id = run_id = str(run["id"])
        self._console.print(f"run [bold]{run_id}[/bold]")
        self._states = {state["nodeId"]: state for state in run["nodeStates"]}
        with Live(console=self._console, auto_refresh=False) if self._is_live else nullcontext() as live:
            async with aclosing(self._updates(run_id)) as updates:
                async for update in updates:
                    await self._show(run_id, update, live)
        if self._is_live and not self._console.is_terminal:
            self._console.line()  # Where nothing can be redrawn, Live leaves the table's last line open.
        ended = await self._read(_END, run_id)
        _conclude(self._console, ended)
        return str(ended["status"])

    async def _show(self, run_id: str, update: dict[str, Any], live: Live | None) -> None:
        if (state := update["nodeState"]) is not None:
            self._states[state["nodeId"]] = state
        if live is not None:
            live.update(_table(self._states, update["runStatus"], update["progress"]), refresh=True)
        await self._say_what_holds_it_up(run_id, update)

    async def _submit(self, spec: Any, inputs: Any) -> dict[str, Any]:
        payload = (await self._client.ask(_RUN, input={"spec": spec, "inputs": inputs}))["runAdhoc"]
        if payload["errors"]:
            raise RunRefused("\n".join(line for problem in payload["errors"] for line in _lines(problem)))
        run: dict[str, Any] = payload["run"]
        return run

    async def _updates(self, run_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """Node states until the run ends. A lost connection is made again, and goes on from the last number seen."""
        after: int | None = None
        while True:
            try:
                async with aclosing(self._client.subscribe(_STATES, run=run_id, after=after)) as messages:
                    async for message in messages:
                        update = message["nodeStates"]
                        after, self._is_lost = update["seq"], False
                        yield update
                        if update["runStatus"] in TERMINAL:
                            return
                if (await self._read(_END, run_id))["status"] in TERMINAL:
                    return
            except AWAY:
                self._say_lost()
            await asyncio.sleep(RECONNECT_S)

    async def _read(self, query: str, run_id: str) -> dict[str, Any]:
        while True:
            try:
                run: dict[str, Any] = (await self._client.ask(query, run=run_id))["run"]
            except Unanswered:
                self._say_lost()
                await asyncio.sleep(RECONNECT_S)
            else:
                self._is_lost = False
                return run

    def _say_lost(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._console.print("The server does not answer now. The run is not lost; this goes on when it is back.")

    async def _say_what_holds_it_up(self, run_id: str, update: dict[str, Any]) -> None:
        is_paused = update["runStatus"] == "PAUSED"
        if is_paused and not self._is_paused:
            self._say(
                f'Paused. It goes on by  mutation {{ resumeRun(input: {{runId: "{run_id}"}}) {{ run {{ status }} }} }}'
            )
        self._is_paused = is_paused
        if update["runStatus"] != "WAITING" and (update["nodeState"] or {}).get("status") != "WAITING":
            return
        run = await self._read(WAITS, run_id)
        for wait in questions(run):
            if wait["waitId"] not in self._asked:
                self._asked.add(wait["waitId"])
                self._say(told(run_id, run, wait, self._client.page))

    def _say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def _lines(problem: dict[str, Any]) -> list[str]:
    """A problem of many fields says its first ones in `detail` as well: said once is enough."""
    fields = problem.get("errors") or []
    if not fields:
        return [problem["detail"]]
    return [f"{problem['title']}:", *(f"  {one['field']}: {one['message']}" for one in fields)]


def _conclude(console: Console, ended: dict[str, Any]) -> None:
    console.print(f"{ended['status']} in {ended['durationMs'] or 0:.0f} ms")
    if ended["error"]:
        error = ended["error"]
        console.print(f"{error['code']} at {error['nodeId'] or 'the run'}: {error['message']}", markup=False)
    else:
        console.print_json(orjson.dumps(ended["output"]).decode())


def _table(states: dict[str, dict[str, Any]], status: str, progress: float) -> Table:
    table = Table(title=f"{status}  {progress:.0%}", title_justify="left")
    for heading in ("node", "type", "status", "visits", "ms", ""):
        table.add_column(heading, justify="right" if heading in ("visits", "ms") else "left")
    for state in states.values():
        colour = _COLOURS.get(state["status"], "white")
        took = state.get("durationMs")
        note = (state.get("error") or {}).get("message") or state.get("message") or ""
        table.add_row(
            Text(state["label"]),
            state["type"],
            f"[{colour}]{state['status']}[/{colour}]",
            str(state.get("visits", 0) or ""),
            "" if took is None else f"{took:.1f}",
            Text(note[:60]),
        )
    return table
