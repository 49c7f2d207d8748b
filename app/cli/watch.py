"""`treadle run`: submits a spec and shows the states of its nodes live, with `treadle.client`.

The run belongs to the server and continues after this process has ended. If the connection is lost,
the client reconnects and continues from the last `seq` that it has received.
"""

import asyncio
from contextlib import aclosing, nullcontext
from typing import Any

import orjson
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.cli.client import ApiClient
from app.cli.operations.output import print_json
from app.cli.questions import WAITS, open_questions, question_text
from app.terminal_text import escape_controls
from treadle.client import (
    NodeStateChangedData,
    NodeStateData,
    RunSnapshotData,
    RunUpdateData,
    RunView,
    TreadleError,
)

_END = "query ($run: ID!) { run(id: $run) { status output durationMs error { nodeId code message } } }"
_TYPES = ("NODE_STATE", "RUN_STATUS", "PROGRESS")
_COLOURS = {"COMPLETED": "green", "FAILED": "red", "RUNNING": "cyan", "SKIPPED": "dim", "WAITING": "yellow"}
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
        self._view = RunView()
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
        async with self._client:
            self._client.on_retry = self._print_connection_lost
            self._run_id = run_id = (await self._client.start(spec, inputs)).id
            self._console.print(f"run [bold]{run_id}[/bold]")
            await self._watch(run_id)
            run = (await self._client.wait_for(_END, run=run_id))["run"]
        if self._is_json:
            print_json({"id": run_id, **run})
        else:
            _print_result(self._console, run)
        return str(run["status"])

    async def _watch(self, run_id: str) -> None:
        waiting = asyncio.create_task(self._look_for_worker())
        try:
            with Live(console=self._console, auto_refresh=False) if self._is_live else nullcontext() as live:
                async with aclosing(self._client.watch_run(run_id, types=_TYPES)) as updates:
                    async for update in updates:
                        self._is_lost = False
                        self._view.apply(update)
                        if self._view.status != "QUEUED":
                            waiting.cancel()
                        await self._show(run_id, update, live)
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        if self._is_live and not self._console.is_terminal:
            # Without a terminal, Live does not end the last line of the table.
            self._console.line()

    async def _look_for_worker(self) -> None:
        """Say that no worker is alive, as long as the run is QUEUED. Cancelled once it has started."""
        while True:
            await asyncio.sleep(QUEUED_S)
            if await self._client.has_worker() is False:
                self._print("No worker is alive, so the run stays QUEUED. Start one with `treadle worker`.")
                return

    async def _show(self, run_id: str, update: RunUpdateData, live: Live | None) -> None:
        if live is not None:
            live.update(_table(self._view), refresh=True)
        await self._print_open_waits(run_id, update)

    def _print_connection_lost(self, error: TreadleError, pause_s: float) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._console.print(
                "The server does not respond. The run is not lost; this command continues when the server is back."
            )

    async def _print_open_waits(self, run_id: str, update: RunUpdateData) -> None:
        is_paused = self._view.status == "PAUSED"
        if is_paused and not self._is_paused:
            self._print(
                "The run is paused. To resume it:  "
                f'mutation {{ resumeRun(input: {{runId: "{run_id}"}}) {{ run {{ status }} }} }}'
            )
        self._is_paused = is_paused
        if self._view.status != "WAITING" and not _shows_wait(update):
            return
        run = (await self._client.wait_for(WAITS, run=run_id))["run"]
        for wait in open_questions(run):
            if wait["waitId"] not in self._printed_waits:
                self._printed_waits.add(wait["waitId"])
                self._print(question_text(run_id, run, wait, self._client.page))

    def _print(self, text: str) -> None:
        self._console.print(Text(escape_controls(text, keep_lines=True)), soft_wrap=True)


def _shows_wait(update: RunUpdateData) -> bool:
    """Whether a node of the update waits."""
    if isinstance(update, RunSnapshotData):
        return any(state.status == "WAITING" for state in update.node_states)
    return isinstance(update, NodeStateChangedData) and update.node_state.status == "WAITING"


def _print_result(console: Console, run: dict[str, Any]) -> None:
    console.print(f"{run['status']} in {run['durationMs'] or 0:.0f} ms")
    if run["error"]:
        error = run["error"]
        text = f"{error['code']} at {error['nodeId'] or 'the run'}: {error['message']}"
        console.print(escape_controls(text, keep_lines=True), markup=False)
    else:
        text = escape_controls(orjson.dumps(run["output"], option=orjson.OPT_INDENT_2).decode(), keep_lines=True)
        console.print(JSONHighlighter()(text), soft_wrap=True)


def _table(view: RunView) -> Table:
    table = Table(title=f"{view.status}  {view.progress:.0%}", title_justify="left")
    for heading in ("node", "type", "status", "visits", "ms", ""):
        table.add_column(heading, justify="right" if heading in ("visits", "ms") else "left")
    for state in view.nodes.values():
        table.add_row(*_cells(state))
    return table


def _cells(state: NodeStateData) -> tuple[Text | str, ...]:
    colour = _COLOURS.get(state.status, "white")
    note = (state.error.message if state.error else state.message) or ""
    return (
        Text(escape_controls(state.label)),
        Text(escape_controls(state.type)),
        f"[{colour}]{state.status}[/{colour}]",
        str(state.visits or ""),
        "" if state.duration_ms is None else f"{state.duration_ms:.1f}",
        Text(escape_controls(note[:60])),
    )
