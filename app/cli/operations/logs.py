"""`treadle logs RUN`: prints the log of a run, and follows it with `-f`.

After a lost connection it continues from the last `seq`, so no line is missed or repeated.
"""

import json
from contextlib import aclosing
from typing import Any

from app.cli.client import ApiClient, RunRefused
from app.cli.operations.output import cell_text, print_line
from engine.states import TERMINAL, LogLevel
from treadle.client import LogRecordedData

PAGE = 1000
_LOG = "seq at nodeId level message fields"
_PAGE = f"""query ($id: ID!, $after: Int, $node: ID, $level: LogLevel, $search: String) {{
  run(id: $id) {{ status lastSeq historyExpiredAt
    logs(first: {PAGE}, after: $after, nodeId: $node, minLevel: $level, search: $search) {{
      nodes {{ {_LOG} }} lastSeq hasMore }} }} }}"""


class LogPrinter:
    """Prints the log lines of one run that pass the filter.

    Args:
        client: The server.
        run_id: The run.
        node: Only lines of this node; None for all.
        level: Only lines of at least this level.
        search: Only lines with this text in the message or the fields; None for all.
        is_json: Whether to print each line as JSON.
    """

    def __init__(
        self,
        client: ApiClient,
        run_id: str,
        node: str | None,
        level: LogLevel,
        search: str | None = None,
        *,
        is_json: bool,
    ) -> None:
        self._client, self._run_id, self._node, self._level, self._is_json = client, run_id, node, level, is_json
        self._search = search
        self._after = 0

    async def print_stored(self) -> str:
        """Print what is stored, and return the status of the run. Raises RunRefused."""
        while True:
            arguments: dict[str, Any] = {"id": self._run_id, "after": self._after, "node": self._node}
            arguments |= {"level": self._level.value, "search": self._search}
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
        async with aclosing(self._client.watch_run(self._run_id, after=self._after, types=["LOG"])) as updates:
            async for update in updates:
                if isinstance(update, LogRecordedData):
                    self._print_lines([_line(update)])
        # Retention may have deleted what the client had not received.
        await self.print_stored()

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
        text = f"{line['message']}\n{json.dumps(line['fields'], ensure_ascii=False, separators=(',', ':'))}"
        is_found = self._search is None or self._search.lower() in text.lower()
        return is_high and is_found and self._node in (None, line["nodeId"])


def _line(update: LogRecordedData) -> dict[str, Any]:
    """Return a line as queries return it."""
    line = update.model_dump(mode="json", by_alias=True)
    return {name: line[name] for name in _LOG.split()}


def log_text(line: dict[str, Any]) -> str:
    """Render a log line for people."""
    fields = " ".join(f"{name}={cell_text(value)}" for name, value in line["fields"].items())
    where = f" {line['nodeId']}:" if line["nodeId"] else ""
    return f"{line['at']} {line['level']:<7}{where} {line['message']}{' ' + fields if fields else ''}"
