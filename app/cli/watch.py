"""`treadle run`: submits a spec and shows the states of its nodes live, over the public API.

The run belongs to the server and continues after this process has ended. If the connection is lost,
this process reconnects and continues from the last `seq` that it has received.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from typing import Any

import orjson
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.cli.client import TRANSIENT_ERRORS, ApiClient, RunRefused, ServerUnavailable
from app.cli.operations.output import print_json
from app.cli.questions import WAITS, open_questions, question_text
from app.terminal_text import escape_controls
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
QUEUED_S = 3.0
"""Seconds that a run may be QUEUED before this command looks for a live worker, and again after that."""


class RunWatcher:
    """Starts one run and prints its node states until it ends.

    Args:
        client: The client of the server.
        is_live: Whether to redraw a table of all nodes with each update.
        is_json: Whether to print the ended run as JSON, and everything else to standard error.
    """

    def __init__(self, client: ApiClient, *, is_live: bool, is_json: bool = False) -> None:
        self._client, self._is_live, self._is_json = client, is_live, is_json
        # JSON has standard output for itself.
        self._console = Console(stderr=is_json)
        self._run_id: str | None = None
        self._printed_waits: set[str] = set()
        self._states: dict[str, dict[str, Any]] = {}
        self._is_paused = self._is_lost = False

    @property
    def detach_text(self) -> str:
        """The text for a person who stops this command before the run has ended."""
        if self._run_id is None:
            return "No run was started."
        return (
            f"{self._run_id} continues on the server. To cancel it, execute this at {self._client.page}:\n"
            f'  mutation {{ cancelRun(input: {{runId: "{self._run_id}"}}) {{ run {{ status }} }} }}'
        )

    async def follow(self, spec: Any, inputs: Any) -> str:
        """Run the spec, print its result, and return the run's final status. Raises RunRefused."""
        run = await self._submit(spec, inputs)
        self._run_id = run_id = str(run["id"])
        self._console.print(f"run [bold]{run_id}[/bold]")
        self._states = {state["nodeId"]: state for state in run["nodeStates"]}
        waiting = asyncio.create_task(self._look_for_worker())
        try:
            with Live(console=self._console, auto_refresh=False) if self._is_live else nullcontext() as live:
                async with aclosing(self._updates(run_id)) as updates:
                    async for update in updates:
                        if update["runStatus"] != "QUEUED":
                            waiting.cancel()
                        await self._show(run_id, update, live)
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        if self._is_live and not self._console.is_terminal:
            # Without a terminal, Live does not end the last line of the table.
            self._console.line()
        run = await self._read(_END, run_id)
        if self._is_json:
            print_json({"id": run_id, **run})
        else:
            _print_result(self._console, run)
        return str(run["status"])

    async def _look_for_worker(self) -> None:
        """Say that no worker is alive, as long as the run is QUEUED. Cancelled once it has started."""
        while True:
            await asyncio.sleep(QUEUED_S)
            if await self._client.has_worker() is False:
                self._print("No worker is alive, so the run stays QUEUED. Start one with `treadle worker`.")
                return

    async def _show(self, run_id: str, update: dict[str, Any], live: Live | None) -> None:
        if (state := update["nodeState"]) is not None:
            self._states[state["nodeId"]] = state
        if live is not None:
            live.update(_table(self._states, update["runStatus"], update["progress"]), refresh=True)
        await self._print_open_waits(run_id, update)

    async def _submit(self, spec: Any, inputs: Any) -> dict[str, Any]:
        payload = (await self._client.execute(_RUN, input={"spec": spec, "inputs": inputs}))["runAdhoc"]
        if payload["errors"]:
            raise RunRefused("\n".join(line for problem in payload["errors"] for line in _problem_lines(problem)))
        run: dict[str, Any] = payload["run"]
        return run

    async def _updates(self, run_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield node states until the run ends.

        After a lost connection, continue from the last `seq`.
        """
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
            except TRANSIENT_ERRORS:
                self._print_connection_lost()
            await asyncio.sleep(RECONNECT_S)

    async def _read(self, query: str, run_id: str) -> dict[str, Any]:
        while True:
            try:
                run: dict[str, Any] = (await self._client.execute(query, run=run_id))["run"]
            except ServerUnavailable:
                self._print_connection_lost()
                await asyncio.sleep(RECONNECT_S)
            else:
                self._is_lost = False
                return run

    def _print_connection_lost(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._console.print(
                "The server does not respond. The run is not lost; this command continues when the server is back."
            )

    async def _print_open_waits(self, run_id: str, update: dict[str, Any]) -> None:
        is_paused = update["runStatus"] == "PAUSED"
        if is_paused and not self._is_paused:
            self._print(
                "The run is paused. To resume it:  "
                f'mutation {{ resumeRun(input: {{runId: "{run_id}"}}) {{ run {{ status }} }} }}'
            )
        self._is_paused = is_paused
        if update["runStatus"] != "WAITING" and (update["nodeState"] or {}).get("status") != "WAITING":
            return
        run = await self._read(WAITS, run_id)
        for wait in open_questions(run):
            if wait["waitId"] not in self._printed_waits:
                self._printed_waits.add(wait["waitId"])
                self._print(question_text(run_id, run, wait, self._client.page))

    def _print(self, text: str) -> None:
        self._console.print(Text(escape_controls(text, keep_lines=True)), soft_wrap=True)


def _problem_lines(problem: dict[str, Any]) -> list[str]:
    """Render a problem.

    Its `detail` repeats the first errors of its fields, so it is left out if there are any.
    """
    fields = problem.get("errors") or []
    if not fields:
        return [problem["detail"]]
    return [f"{problem['title']}:", *(f"  {one['field']}: {one['message']}" for one in fields)]


def _print_result(console: Console, run: dict[str, Any]) -> None:
    console.print(f"{run['status']} in {run['durationMs'] or 0:.0f} ms")
    if run["error"]:
        error = run["error"]
        text = f"{error['code']} at {error['nodeId'] or 'the run'}: {error['message']}"
        console.print(escape_controls(text, keep_lines=True), markup=False)
    else:
        text = escape_controls(orjson.dumps(run["output"], option=orjson.OPT_INDENT_2).decode(), keep_lines=True)
        console.print(JSONHighlighter()(text), soft_wrap=True)


def _table(states: dict[str, dict[str, Any]], status: str, progress: float) -> Table:
    table = Table(title=f"{status}  {progress:.0%}", title_justify="left")
    for heading in ("node", "type", "status", "visits", "ms", ""):
        table.add_column(heading, justify="right" if heading in ("visits", "ms") else "left")
    for state in states.values():
        colour = _COLOURS.get(state["status"], "white")
        duration_ms = state.get("durationMs")
        note = (state.get("error") or {}).get("message") or state.get("message") or ""
        table.add_row(
            Text(escape_controls(state["label"])),
            Text(escape_controls(state["type"])),
            f"[{colour}]{state['status']}[/{colour}]",
            str(state.get("visits", 0) or ""),
            "" if duration_ms is None else f"{duration_ms:.1f}",
            Text(escape_controls(note[:60])),
        )
    return table
