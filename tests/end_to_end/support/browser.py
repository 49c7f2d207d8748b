"""A browser that plays scenarios of `tests/end_to_end/studio`, by Playwright in a process of Node.js.

One process and one browser serve all tests of a session; each scenario has a context of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from web.build import install, machine_node, wheel_node

FOLDER = Path(__file__).parents[1] / "studio"
LINE_BYTES = 64 * 1024 * 1024
SCENARIO_S = 300

long = pytest.mark.studio_long
"""Marks a test that only `make studio-tests` runs."""


Act = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class ScenarioPlayer:
    """A process that plays one scenario after the other."""

    process: asyncio.subprocess.Process

    async def play(
        self, scenario: str, port: int, acts: Mapping[str, Act] | None = None, **facts: Any
    ) -> dict[str, Any]:
        """Play a scenario to its end.

        Args:
            port: The server's.
            acts: What the test does when the scenario asks for it, by name.
            facts: Values for the scenario.

        Returns:
            Its report. The page had no error, and no serious fault of accessibility.
        """
        address = f"http://127.0.0.1:{port}/"
        async with asyncio.timeout(SCENARIO_S):
            message = await self._exchange({"scenario": scenario, "address": address, "facts": facts})
            while "ask" in message:
                message = await self._exchange(await (acts or {})[message["ask"]]())
        report: dict[str, Any] = message["report"]
        assert "failure" not in report, report["failure"]
        assert not (report["errors"] or report["faults"]), (report["errors"], report["faults"])
        return report

    async def _exchange(self, request: object) -> dict[str, Any]:
        """Write one line, and read one."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(orjson.dumps(request) + b"\n")
        await self.process.stdin.drain()
        line = await self.process.stdout.readline()
        assert line, "the process of the browser has ended"
        message: dict[str, Any] = orjson.loads(line)
        return message


@asynccontextmanager
async def open_browser(executable: str) -> AsyncIterator[ScenarioPlayer]:
    """Start the browser, and end it after the last scenario."""
    node = machine_node() or wheel_node()
    await asyncio.to_thread(install, FOLDER, node, "npm.log")
    pipe = asyncio.subprocess.PIPE
    command = (str(node.program), "scenarios.mjs", executable)
    process = await asyncio.create_subprocess_exec(*command, cwd=FOLDER, stdin=pipe, stdout=pipe, limit=LINE_BYTES)
    try:
        yield ScenarioPlayer(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
