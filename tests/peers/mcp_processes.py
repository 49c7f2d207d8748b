"""The MCP servers of the tests: programs on standard streams, and one over HTTP in a process that can be killed."""

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


class Told(asyncio.DatagramProtocol):
    """What the servers of a test tell."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.port = 0
        self._changed = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.lines.append(data.decode())
        self._changed.set()

    def count(self, what: str) -> int:
        return sum(line.endswith(what) for line in self.lines)

    @property
    def pid(self) -> int:
        """Of the first one that was started."""
        return int(self.lines[0].split()[0])

    async def until(self, what: str) -> None:
        async with asyncio.timeout(20):
            while not self.count(what):
                self._changed.clear()
                await self._changed.wait()


def stdio(log: Told, kind: str = "stdio", **more: Any) -> McpServer:
    env = {"MCP_TELL": str(log.port), **more.pop("env", {})}
    return McpServer(command=sys.executable, args=["-P", str(PEER), kind], env=env, **more)


class Http:
    """A server over HTTP, and the process that is it."""

    def __init__(self, log: Told) -> None:
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
