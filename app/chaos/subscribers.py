"""Real WebSocket clients (graphql-transport-ws) that follow runs, drop at random, and come back with the last number seen.

Every run is followed twice, by `runEvents` and by `nodeStates`, by different clients. Each keeps what it was told; whether
that was all and nothing twice is for the audit.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from engine.states import RunStatus

EVENTS = """subscription ($run: ID!, $after: Int) {
  runEvents(runId: $run, after: $after) { __typename seq ... on RunStatusChanged { status } }
}"""
STATES = """subscription ($run: ID!, $after: Int) {
  nodeStates(runId: $run, after: $after) { seq snapshot runStatus nodeState { nodeId status visits } }
}"""
PROTOCOL = Subprotocol("graphql-transport-ws")
STEADY_S = (4.0, 30.0)
"""How long a client stays connected before it drops."""
AWAY_S = (0.0, 2.0)


class Kind(StrEnum):
    EVENTS = "runEvents"
    STATES = "nodeStates"


QUERIES = {Kind.EVENTS: EVENTS, Kind.STATES: STATES}


@dataclass(slots=True)
class View:
    """What one subscriber was told of one run, over all its connections."""

    run_id: str
    kind: Kind
    on_end: Callable[[], None]
    after: int | None = None
    """The last number seen: from here the next connection goes on."""
    seen: list[int] = field(default_factory=list)
    """Numbers of events, in the order in which they came; a snapshot is none."""
    base: int = 0
    """The snapshot's number: what came before it is in it."""
    nodes: dict[str, tuple[str, int]] = field(default_factory=dict)
    status: RunStatus | None = None
    ends: int = 0
    """Terminal events."""
    faults: list[str] = field(default_factory=list)
    is_failing: bool = False
    is_over: bool = False

    def take(self, told: dict[str, Any]) -> None:
        self.after = seq = told["seq"]
        if told.get("snapshot"):
            self._take_snapshot(seq)
        elif seq <= max(self.base, self.seen[-1] if self.seen else 0):
            self.faults.append(f"{seq} came after {self.seen[-1] if self.seen else self.base}")
        else:
            self.seen.append(seq)
        if (state := told.get("nodeState")) is not None:
            self.nodes[state["nodeId"]] = (state["status"], state["visits"])
        if (status := told.get("status") or told.get("runStatus")) is not None:
            self._note(RunStatus(status), is_change=state is None and not told.get("snapshot"))

    def _take_snapshot(self, seq: int) -> None:
        self.base = seq
        if self.seen:
            self.faults.append(f"a snapshot at {seq} after {self.seen[-1]}")

    def _note(self, status: RunStatus, *, is_change: bool) -> None:
        self.status = status
        self.ends += status.is_terminal and is_change
        if status.is_terminal:
            self.on_end()

    def complete(self) -> None:
        """The server says that there is no more: true only after the last event."""
        self.is_over = True
        if self.status is None or not self.status.is_terminal:
            self.faults.append(f"the stream ended at {self.after}, with the run {self.status}")
            self.on_end()


class Subscriber:
    """One client with one socket for all its views."""

    def __init__(self, port: int, rng: Random, complaints: Counter[str]) -> None:
        self._url, self._rng, self._complaints = f"ws://127.0.0.1:{port}/graphql", rng, complaints
        self._socket: ClientConnection | None = None
        self._views: dict[str, View] = {}
        self.drops = 0

    def follow(self, view: View) -> None:
        name = f"{len(self._views)}"
        self._views[name] = view
        if self._socket is not None:
            task = asyncio.create_task(self._subscribe(self._socket, name))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def drop(self) -> None:
        """Cuts the connection without a word."""
        if self._socket is not None:
            self.drops += 1
            self._socket.transport.abort()

    @property
    def views(self) -> list[View]:
        return list(self._views.values())

    async def run(self) -> None:
        """Connects, and connects again, until cancelled."""
        while True:
            try:
                async with connect(
                    self._url,
                    subprotocols=[PROTOCOL],
                    proxy=None,
                    open_timeout=60,
                    close_timeout=1,
                ) as socket:
                    await self._talk(socket)
            except (OSError, TimeoutError, WebSocketException) as wrong:
                self._complaints[f"socket: {type(wrong).__name__}"] += 1
            finally:
                self._socket = None
            await asyncio.sleep(self._rng.uniform(*AWAY_S))

    async def _talk(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"type": "connection_init"}))
        asyncio.get_running_loop().call_later(self._rng.uniform(*STEADY_S), self._drop_if, socket)
        async for raw in socket:
            message = json.loads(raw)
            if message["type"] == "connection_ack":
                self._socket = socket
                for name in list(self._views):
                    await self._subscribe(socket, name)
            elif message["type"] == "ping":
                await socket.send(json.dumps({"type": "pong"}))
            elif "id" in message:
                self._take(socket, message["id"], message)

    def _drop_if(self, socket: ClientConnection) -> None:
        if socket is self._socket:
            self.drop()

    async def _subscribe(self, socket: ClientConnection, name: str) -> None:
        view = self._views[name]
        if view.is_over:
            return
        view.is_failing = False
        payload = {"query": QUERIES[view.kind], "variables": {"run": view.run_id, "after": view.after}}
        await socket.send(json.dumps({"id": name, "type": "subscribe", "payload": payload}))

    def _take(self, socket: ClientConnection, name: str, message: dict[str, Any]) -> None:
        view, kind = self._views[name], message["type"]
        if kind == "next" and not message["payload"].get("errors"):
            view.take(message["payload"]["data"][view.kind])
        elif kind == "complete" and not view.is_failing:
            view.complete()
        elif kind == "next":
            view.is_failing = True
            self._complaints[f"{view.kind}: {message['payload']['errors'][0]['message']}"] += 1
        else:
            if kind == "error":
                self._complaints[f"{view.kind}: {message['payload'][0]['message']}"] += 1
            self._ask_again(socket, name)

    def _ask_again(self, socket: ClientConnection, name: str) -> None:
        """A store was away in the middle: on this very connection, after a moment, from where the view stands."""

        async def later() -> None:
            await asyncio.sleep(self._rng.uniform(0.2, 1))
            if socket is self._socket:
                await self._subscribe(socket, name)

        task = asyncio.create_task(later())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
