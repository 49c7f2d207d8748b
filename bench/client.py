"""A lean HTTP client.

It shares the cores with the measured processes, so it does as little as possible.
"""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import orjson

RUN = """mutation Run($input: RunWorkflowInput!) {
  runWorkflow(input: $input) { run { id status } errors { code detail } }
}"""
CREATE = """mutation Create($input: CreateWorkflowInput!) {
  createWorkflow(input: $input) { workflow { id } errors { code detail } }
}"""


class BenchClient:
    """A GraphQL client with one keep-alive connection and one request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "127.0.0.1", parts.port or 80, parts.path
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> "BenchClient":
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=2**24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def execute(self, query: str, **variables: Any) -> Any:
        """Execute an operation and return its `data`. Raises RuntimeError on errors."""
        body = orjson.dumps({"query": query, "variables": variables})
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        headers = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        start = headers.index(b"content-length:") + 15
        length = int(headers[start : headers.index(b"\r\n", start)])
        response = orjson.loads(await self._reader.readexactly(length))
        if response.get("errors"):
            raise RuntimeError(str(response["errors"]))
        return response["data"]

    async def create(self, name: str, spec: Any) -> str:
        """Create a workflow and return its id."""
        payload = (await self.execute(CREATE, input={"name": name, "spec": spec}))["createWorkflow"]
        if payload["errors"]:
            raise RuntimeError(str(payload["errors"]))
        return str(payload["workflow"]["id"])

    async def run(self, workflow_id: str, inputs: Any, mode: str = "SYNC") -> dict[str, str]:
        """Start a run and return its id and status.

        In mode SYNC, raises RuntimeError unless it COMPLETED.
        """
        arguments = {"workflowId": workflow_id, "inputs": inputs, "mode": mode, "timeoutMs": 60_000}
        payload = (await self.execute(RUN, input=arguments))["runWorkflow"]
        if payload["errors"] or (mode == "SYNC" and payload["run"]["status"] != "COMPLETED"):
            raise RuntimeError(str(payload))
        return dict(payload["run"])
