"""Subscribers: WebSocket clients that follow runs, disconnect at random, and resume by `seq`.

Two different clients follow each run, one by `runEvents` and one by `nodeStates`. They record what
they receive. The audit checks that nothing is missing or repeated.
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
CONNECTED_S = (4.0, 30.0)
"""Shortest and longest time until a client disconnects, in seconds."""
DISCONNECTED_S = (0.0, 2.0)
"""Shortest and longest time until it connects again, in seconds."""


class SubscriptionKind(StrEnum):
    """The two subscriptions that follow a run."""

    EVENTS = "runEvents"
    STATES = "nodeStates"


QUERIES = {SubscriptionKind.EVENTS: EVENTS, SubscriptionKind.STATES: STATES}


@dataclass(slots=True)
class View:
    """Everything that one subscriber has received about one run, over all its connections.

    Attributes:
        on_end: Called when the terminal event or status is received.
        after: The last `seq` received, from which the next connection resumes.
        received: The `seq` of each event in order of arrival, without snapshots.
        base: The `seq` of the snapshot, which includes all events up to it.
        nodes: The last status and number of visits, by node id.
        errors: Violations that the subscriber itself has detected.
        is_failing: Whether the server has reported an error since the last subscription.
        over: Set when the server has completed the subscription.
    """

    run_id: str
    kind: SubscriptionKind
    on_end: Callable[[], None]
    after: int | None = None
    received: list[int] = field(default_factory=list)
    base: int = 0
    nodes: dict[str, tuple[str, int]] = field(default_factory=dict)
    status: RunStatus | None = None
    terminal_events: int = 0
    errors: list[str] = field(default_factory=list)
    is_failing: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def receive(self, update: dict[str, Any]) -> None:
        """Record an update of the subscription."""
        self.after = seq = update["seq"]
        if update.get("snapshot"):
            self._receive_snapshot(seq)
        elif seq <= max(self.base, self.received[-1] if self.received else 0):
            self.errors.append(f"{seq} came after {self.received[-1] if self.received else self.base}")
        else:
            self.received.append(seq)
        if (state := update.get("nodeState")) is not None:
            self.nodes[state["nodeId"]] = (state["status"], state["visits"])
        if (status := update.get("status") or update.get("runStatus")) is not None:
            self._receive_status(RunStatus(status), is_change=state is None and not update.get("snapshot"))

    def _receive_snapshot(self, seq: int) -> None:
        self.base = seq
        if self.received:
            self.errors.append(f"a snapshot at {seq} after {self.received[-1]}")

    def _receive_status(self, status: RunStatus, *, is_change: bool) -> None:
        self.status = status
        self.terminal_events += status.is_terminal and is_change
        if status.is_terminal:
            self.on_end()

    def complete(self) -> None:
        """Record the end of the subscription, which is correct only after the last event."""
        self.over.set()
        if self.status is None or not self.status.is_terminal:
            self.errors.append(f"the stream ended at {self.after}, with the run {self.status}")
            self.on_end()


class Subscriber:
    """One client with one socket for all its views.

    Args:
        port: The port of the server.
        rng: The random source of connection times.
        errors: Counts the errors that the client meets, by kind.
    """

    def __init__(self, port: int, rng: Random, errors: Counter[str]) -> None:
        self._url, self._rng, self._errors = f"ws://127.0.0.1:{port}/graphql", rng, errors
        self._socket: ClientConnection | None = None
        self._views: dict[str, View] = {}
        self.drops = 0

    def follow(self, view: View) -> None:
        """Subscribe to a run, now if connected, and after each connection until it is over."""
        name = f"{len(self._views)}"
        self._views[name] = view
        if self._socket is not None:
            task = asyncio.create_task(self._subscribe(self._socket, name))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def drop(self) -> None:
        """Abort the connection without a close frame."""
        if self._socket is not None:
            self.drops += 1
            self._socket.transport.abort()

    @property
    def views(self) -> list[View]:
        return list(self._views.values())

    async def run(self) -> None:
        """Connect, and reconnect after each disconnect, until cancelled."""
        while True:
            try:
                async with connect(
                    self._url,
                    subprotocols=[PROTOCOL],
                    proxy=None,
                    open_timeout=60,
                    close_timeout=1,
                ) as socket:
                    await self._read_messages(socket)
            except (OSError, TimeoutError, WebSocketException) as error:
                self._errors[f"socket: {type(error).__name__}"] += 1
            finally:
                self._socket = None
            await asyncio.sleep(self._rng.uniform(*DISCONNECTED_S))

    async def _read_messages(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"type": "connection_init"}))
        asyncio.get_running_loop().call_later(self._rng.uniform(*CONNECTED_S), self._drop_socket, socket)
        async for raw in socket:
            message = json.loads(raw)
            if message["type"] == "connection_ack":
                self._socket = socket
                for name in list(self._views):
                    await self._subscribe(socket, name)
            elif message["type"] == "ping":
                await socket.send(json.dumps({"type": "pong"}))
            elif "id" in message:
                self._handle(socket, message["id"], message)

    def _drop_socket(self, socket: ClientConnection) -> None:
        if socket is self._socket:
            self.drop()

    async def _subscribe(self, socket: ClientConnection, name: str) -> None:
        view = self._views[name]
        if view.over.is_set():
            return
        view.is_failing = False
        payload = {"query": QUERIES[view.kind], "variables": {"run": view.run_id, "after": view.after}}
        await socket.send(json.dumps({"id": name, "type": "subscribe", "payload": payload}))

    def _handle(self, socket: ClientConnection, name: str, message: dict[str, Any]) -> None:
        view, kind = self._views[name], message["type"]
        if kind == "next" and not message["payload"].get("errors"):
            view.receive(message["payload"]["data"][view.kind])
        elif kind == "complete" and not view.is_failing:
            view.complete()
        elif kind == "next":
            view.is_failing = True
            self._errors[f"{view.kind}: {message['payload']['errors'][0]['message']}"] += 1
        else:
            if kind == "error":
                self._errors[f"{view.kind}: {message['payload'][0]['message']}"] += 1
            self._subscribe_later(socket, name)

    def _subscribe_later(self, socket: ClientConnection, name: str) -> None:
        """Subscribe again on the same connection after a pause, because a store was unavailable."""

        async def later() -> None:
            await asyncio.sleep(self._rng.uniform(0.2, 1))
            if socket is self._socket:
                await self._subscribe(socket, name)

        task = asyncio.create_task(later())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
