"""MCP servers of the tests in their own processes: on standard streams, and over HTTP."""

import asyncio
import os
import socket
import subprocess
import sys
from typing import Any

import httpx

from engine.catalog_file import McpServer
from tests.paths import PEERS

PEER = PEERS / "mcp_server.py"


class ServerLog(asyncio.DatagramProtocol):
    """The lines that the servers of a test report by datagram: `<pid> <event>`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.port = 0
        self._changed = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.lines.append(data.decode())
        self._changed.set()

    def count(self, event: str) -> int:
        """Return how often an event was reported."""
        return sum(line.endswith(event) for line in self.lines)

    @property
    def pid(self) -> int:
        """The process id of the first server."""
        return int(self.lines[0].split()[0])

    async def until(self, event: str) -> None:
        """Wait at most 20 s for an event."""
        async with asyncio.timeout(20):
            while not self.count(event):
                self._changed.clear()
                await self._changed.wait()


def stdio(log: ServerLog, kind: str = "stdio", **more: Any) -> McpServer:
    env = {"MCP_TELL": str(log.port), **more.pop("env", {})}
    return McpServer(command=sys.executable, args=["-P", str(PEER), kind], env=env, **more)


class HttpServerProcess:
    """A server over HTTP in a process that can be killed and started again."""

    def __init__(self, log: ServerLog) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-P", str(PEER), "streamable-http", str(self.port)]
        self.process = self._popen(command)
        async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{self.port}/")
                    return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    def _popen(self, command: list[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, env={**os.environ, "MCP_TELL": str(self._log.port)})

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
