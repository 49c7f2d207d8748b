"""What every resolver is given: who asks, and the long-lived things of this process. One for each request or socket."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from engine.sdk.node_types import NodeTypes
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.feed.feed import Feed
from persistence.queue.notifier import Notifier
from resolvers.loaders import Loaders


@dataclass(slots=True)
class Context:
    """`connection_params` is what a WebSocket client sent with its connection_init; None over HTTP.

    `resources` are what nodes reach here, as in a worker: see engine/nodes/resources.py.
    """

    caller: Caller
    database: Database
    node_types: NodeTypes
    redis: Redis
    notifier: Notifier
    feed: Feed
    connection_params: dict[str, object] | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    loaders: Loaders = field(init=False)

    def __post_init__(self) -> None:
        self.loaders = Loaders(self.database, self.caller)
