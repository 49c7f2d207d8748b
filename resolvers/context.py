"""Context of a request or WebSocket: the caller and the long-lived resources of this process."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.sdk.node_types import NodeTypes
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.feed.feed import Feed
from persistence.queue.notifier import Notifier
from persistence.runs.queue_limit import QueueLimit
from resolvers.loaders import Loaders
from resolvers.policy import OperationPolicy


@dataclass(slots=True)
class Context:
    """Passed to every resolver.

    `connection_params` is the payload of a WebSocket's connection_init message; None over HTTP.
    `on_sign_in` is called with the new caller of a WebSocket.
    `public_url` is the address at which clients reach the server, without a slash at its end.
    `resources` are the same resources that nodes use in a worker: see engine/nodes/resources.py.
    `last_event` is the number of the last event that the client of an event stream has received before it
    connected again. `last_seq` is the number of the event that is sent to it now.
    """

    caller: Caller
    database: Database
    node_types: NodeTypes
    redis: Redis
    notifier: Notifier
    feed: Feed
    connection_params: dict[str, object] | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    last_event: int | None = None
    last_seq: int | None = None
    on_sign_in: Callable[[Caller], None] | None = None
    queue_limit: QueueLimit = field(default_factory=QueueLimit)
    policy: OperationPolicy = field(default_factory=OperationPolicy)
    public_url: str = ""
    loaders: Loaders = field(init=False)

    def __post_init__(self) -> None:
        self.loaders = Loaders(self.database, self.caller)

    def read(self, *, is_snapshot: bool = False) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a connection for reads of the caller; see `Database.read`."""
        return self.database.read(self.caller.projects, is_snapshot=is_snapshot)

    def sign_in(self, caller: Caller) -> None:
        """Replace the caller of a WebSocket, before its first operation."""
        self.caller, self.loaders = caller, Loaders(self.database, caller)
        if self.on_sign_in is not None:
            self.on_sign_in(caller)
