"""Row 16: runs that stream the text of a model to subscribers: CPU per token, and delivery.

The model is an endpoint in a process of its own, `python -m bench.streaming`. Each of its tokens is
the time at which it was sent, so a subscriber knows the delay of each token that it receives.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import websockets
from websockets.asyncio.client import ClientConnection, connect

from bench.client import BenchClient
from bench.graphs import Spec
from bench.latency import CANCEL
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import ROOT, Deployment, deployed
from bench.shapes import ANSWER, RUN_TO_QUESTION

FEW, MANY = 20, 200
RATE = 200
"""Tokens per second of each run."""
WRITE_S = 0.01
"""Seconds between two writes of the endpoint to one connection."""
WINDOW_S = 5.0
BEGIN_S = 60.0
"""How long to wait until all runs stream."""
STREAM_S = 120.0
"""The longest time of one answer. The measurement cancels the runs before."""
PER_SOCKET = 10
UPDATES = """subscription ($id: ID!) { runUpdates(runId: $id, types: [OUTPUT_DELTA, RUN_STATUS]) {
  __typename ... on NodeOutputDelta { text } } }"""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def streaming() -> list[Figure]:
    """Measure row 16 with few and with many runs."""
    with _endpoint() as url:
        models = json.dumps([{"name": "bench", "base_url": f"{url}/v1"}])
        with deployed(models=models, max_jobs=str(MANY)) as deployment:
            return [*asyncio.run(_row(deployment, FEW)), *asyncio.run(_row(deployment, MANY))]


@dataclass
class StreamedTokens:
    """The delays of the tokens that arrive while `is_measuring`, in milliseconds."""

    runs: int
    begun: set[str] = field(default_factory=set)
    all_begun: asyncio.Event = field(default_factory=asyncio.Event)
    is_measuring: bool = False
    delays: list[float] = field(default_factory=list)

    def receive(self, run_id: str, text: str, now: float) -> None:
        if len(self.begun) < self.runs:
            self.begun.add(run_id)
            if len(self.begun) == self.runs:
                self.all_begun.set()
        if self.is_measuring:
            self.delays += [(now - int(sent) / 1e6) * 1000 for sent in text.split()]


async def _row(deployment: Deployment, runs: int) -> list[Figure]:
    tokens = StreamedTokens(runs)
    waits = await _start(deployment, runs)
    ready = asyncio.Barrier(-(-runs // PER_SOCKET) + 1)
    groups = [list(waits)[first : first + PER_SOCKET] for first in range(0, runs, PER_SOCKET)]
    tasks = [asyncio.create_task(_follow(deployment, ids, tokens, ready)) for ids in groups]
    await ready.wait()
    for run_id, wait_id in waits.items():
        await _execute(deployment, ANSWER, input={"runId": run_id, "waitId": wait_id, "answer": True})
    with suppress(TimeoutError):  # The note says how many have begun.
        await asyncio.wait_for(tokens.all_begun.wait(), BEGIN_S)
    used = await _measure(deployment, tokens)
    for run_id in waits:
        await _execute(deployment, CANCEL, id=run_id)
    await asyncio.gather(*tasks)
    return _figures(tokens, used)


async def _execute(deployment: Deployment, query: str, **variables: Any) -> None:
    """Execute a mutation on a connection of its own: a busy server may close one that waits."""
    async with BenchClient(deployment.url) as client:
        await client.execute(query, **variables)


def _figures(tokens: StreamedTokens, used: dict[str, float]) -> list[Figure]:
    runs, count = tokens.runs, len(tokens.delays)
    each = {part: seconds / max(count, 1) * 1e6 for part, seconds in used.items()}
    note = ", ".join(f"{part} {micros:.0f}" for part, micros in each.items())
    rate = f"{count / WINDOW_S:,.0f} of {runs * RATE:,} tokens/s, {len(tokens.begun)} of {runs} runs have begun"
    return [
        reported("16", f"{runs} runs × {RATE} tokens/s: CPU per token, all processes", sum(each.values()), "µs", note),
        reported("16", "  delivery p50", percentile(tokens.delays, 0.5), "ms", rate),
        at_most("16", "  delivery p99", percentile(tokens.delays, 0.99), 50, "ms"),
    ]


async def _measure(deployment: Deployment, tokens: StreamedTokens) -> dict[str, float]:
    """Measure for WINDOW_S. Return the CPU time used in seconds, by part."""
    before, tokens.is_measuring = deployment.cpu(), True
    await asyncio.sleep(WINDOW_S)
    after, tokens.is_measuring = deployment.cpu(), False
    return {part: after[part] - before[part] for part in after}


def _spec() -> Spec:
    """Create a spec that begins with a question, so that runs wait for all subscribers."""
    ask = {"id": "ask", "type": "human", "config": {"prompt": "Go?"}}
    model = {"id": "model", "type": "llm", "config": {"model": "bench", "prompt": "Go"}}
    return {"nodes": [ask, model], "edges": [{"source": "ask", "target": "model"}]}


async def _start(deployment: Deployment, runs: int) -> dict[str, str]:
    """Start runs up to their question. Return the ids of their waits by run id."""
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"stream {time.time_ns()}", _spec())
        arguments = {"workflowId": workflow_id, "inputs": {}, "mode": "SYNC", "timeoutMs": 60_000}
        started = [(await client.execute(RUN_TO_QUESTION, input=arguments))["runWorkflow"]["run"] for _ in range(runs)]
    return {run["id"]: run["waitingFor"]["waitId"] for run in started}


async def _follow(deployment: Deployment, run_ids: list[str], tokens: StreamedTokens, ready: asyncio.Barrier) -> None:
    url, protocol = deployment.url.replace("http", "ws"), websockets.Subprotocol("graphql-transport-ws")
    async with connect(url, subprotocols=[protocol], proxy=None, max_queue=None) as socket:
        await socket.send(orjson.dumps({"type": "connection_init"}).decode())
        await socket.recv()
        for run_id in run_ids:
            payload = {"query": UPDATES, "variables": {"id": run_id}}
            await socket.send(orjson.dumps({"id": run_id, "type": "subscribe", "payload": payload}).decode())
        await _read(socket, len(run_ids), tokens, ready)


async def _read(socket: ClientConnection, count: int, tokens: StreamedTokens, ready: asyncio.Barrier) -> None:
    """Read until all subscriptions have ended."""
    followed, over = set[str](), 0
    while over < count:
        message = orjson.loads(await socket.recv())
        if message["type"] == "complete":
            over += 1
            continue
        if message["type"] != "next":
            raise RuntimeError(f"a subscription of row 16 has failed: {message}")
        text = message["payload"]["data"]["runUpdates"].get("text")
        if text is not None:
            tokens.receive(message["id"], text, time.time())
        elif message["id"] not in followed:
            followed.add(message["id"])
            if len(followed) == count:
                await ready.wait()


@contextmanager
def _endpoint() -> Iterator[str]:
    """Run the endpoint for the duration of the block, and yield its URL."""
    command = [sys.executable, "-m", "bench.streaming"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def _serve() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    async with server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with tokens, until STREAM_S have passed or the client closes the connection."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        began, sent = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < STREAM_S:
            due = int(elapsed * RATE)
            if due > sent:
                body = b"".join(_chunk(str(time.time_ns() // 1000)) for _ in range(due - sent))
                writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
                sent = due
            await writer.drain()
            await asyncio.sleep(WRITE_S)
    writer.close()


def _chunk(token: str) -> bytes:
    choice = {"index": 0, "delta": {"content": f"{token} "}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [choice]}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


if __name__ == "__main__":
    asyncio.run(_serve())
