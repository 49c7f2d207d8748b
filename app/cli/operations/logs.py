"""`treadle logs RUN`: prints the log of a run, and follows it with `-f`.

After a lost connection it continues from the last `seq`, so no line is missed or repeated.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from app.cli.client import TRANSIENT_ERRORS, ApiClient, RunRefused, ServerUnavailable
from app.cli.operations.output import cell_text, print_line
from engine.states import TERMINAL, LogLevel

PAGE = 1000
RECONNECT_S = 0.5
_LOG = "seq at nodeId level message fields"
_PAGE = f"""query ($id: ID!, $after: Int, $node: ID, $level: LogLevel) {{
  run(id: $id) {{ status lastSeq historyExpiredAt
    logs(first: {PAGE}, after: $after, nodeId: $node, minLevel: $level) {{ nodes {{ {_LOG} }} lastSeq hasMore }} }} }}"""
_UPDATES = f"""subscription ($id: ID!, $after: Int) {{
  runUpdates(runId: $id, after: $after, types: [LOG, RUN_STATUS]) {{
    __typename ... on LogRecorded {{ {_LOG} }} ... on RunStatusChanged {{ seq status }}
    ... on HistoryExpired {{ seq }} ... on RunSnapshot {{ seq }} }} }}"""


class LogPrinter:
    """Prints the log lines of one run that pass the filter.

    Args:
        client: The server.
        run_id: The run.
        node: Only lines of this node; None for all.
        level: Only lines of at least this level.
        is_json: Whether to print each line as JSON.
    """

    def __init__(self, client: ApiClient, run_id: str, node: str | None, level: LogLevel, *, is_json: bool) -> None:
        self._client, self._run_id, self._node, self._level, self._is_json = client, run_id, node, level, is_json
        self._after = 0

    async def print_stored(self) -> str:
        """Print what is stored, and return the status of the run. Raises RunRefused."""
        while True:
            arguments = {"id": self._run_id, "after": self._after, "node": self._node, "level": self._level.value}
            run = (await self._client.execute(_PAGE, **arguments))["run"]
            if run is None:
                raise RunRefused(f"there is no run with the id {self._run_id!r}, or you may not see it")
            if run["historyExpiredAt"] is not None:
                raise RunRefused(f"retention has deleted the log of this run at {run['historyExpiredAt']}")
            self._print_lines(run["logs"]["nodes"])
            if not run["logs"]["hasMore"]:
                return str(run["status"])

    async def follow(self) -> None:
        """Print what is stored, and then new lines until the run ends. Raises RunRefused."""
        if await self.print_stored() in TERMINAL:
            return
        while True:
            try:
                async with aclosing(self._updates()) as updates:
                    async for _ in updates:
                        pass
                # Its last lines may be newer than what the subscription has sent.
                if await self.print_stored() in TERMINAL:
                    return
            except (*TRANSIENT_ERRORS, ServerUnavailable):
                await asyncio.sleep(RECONNECT_S)

    async def _updates(self) -> AsyncGenerator[None, None]:
        async with aclosing(self._client.subscribe(_UPDATES, id=self._run_id, after=self._after)) as messages:
            async for message in messages:
                update = message["runUpdates"]
                if update["__typename"] == "LogRecorded":
                    self._print_lines([update])
                elif update.get("status") in TERMINAL:
                    return
                yield

    def _print_lines(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["seq"] <= self._after:
                continue
            self._after = line["seq"]
            if self._passes(line):
                print_line(json.dumps(line, ensure_ascii=False) if self._is_json else log_text(line))

    def _passes(self, line: dict[str, Any]) -> bool:
        levels = list(LogLevel)
        is_high = levels.index(LogLevel(line["level"])) >= levels.index(self._level)
        return is_high and self._node in (None, line["nodeId"])


def log_text(line: dict[str, Any]) -> str:
    """Render a log line for people."""
    fields = " ".join(f"{name}={cell_text(value)}" for name, value in line["fields"].items())
    where = f" {line['nodeId']}:" if line["nodeId"] else ""
    return f"{line['at']} {line['level']:<7}{where} {line['message']}{' ' + fields if fields else ''}"
