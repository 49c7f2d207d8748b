"""A lean HTTP client: it shares the cores with what it measures, so it does no more than write a request and read JSON."""

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


class Client:
    """One keep-alive connection, one request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "127.0.0.1", parts.port or 80, parts.path
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> "Client":
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=2**24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, query: str, **variables: Any) -> Any:
        """The answer's `data`. Raises RuntimeError for errors."""
        body = orjson.dumps({"query": query, "variables": variables})
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        headers = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        start = headers.index(b"content-length:") + 15
        length = int(headers[start : headers.index(b"\r\n", start)])
        answer = orjson.loads(await self._reader.readexactly(length))
        if answer.get("errors"):
            raise RuntimeError(str(answer["errors"]))
        return answer["data"]

    async def create(self, name: str, spec: Any) -> str:
        """The id of a new workflow."""
        made = (await self.ask(CREATE, input={"name": name, "spec": spec}))["createWorkflow"]
        if made["errors"]:
            raise RuntimeError(str(made["errors"]))
        return str(made["workflow"]["id"])

    async def run(self, workflow_id: str, inputs: Any, mode: str = "SYNC") -> dict[str, str]:
        """The run: its id and status. In mode SYNC it must have completed."""
        asked = {"workflowId": workflow_id, "inputs": inputs, "mode": mode, "timeoutMs": 60_000}
        payload = (await self.ask(RUN, input=asked))["runWorkflow"]
        if payload["errors"] or (mode == "SYNC" and payload["run"]["status"] != "COMPLETED"):
            raise RuntimeError(str(payload))
        return dict(payload["run"])
