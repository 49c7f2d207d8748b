"""Run `http` nodes that may reach this machine."""

import asyncio
from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.events import LogRecorded
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.nodes.http.node import HttpConfig, HttpNode
from engine.sdk.node import Output
from tests.engine.node_runner import NodeHarness

LOOPBACK = GuardedHttp(Allowed.parse("127.0.0.1, localhost"))
QUICK = {"maxAttempts": 3, "backoffS": 0}


class HttpVisit:
    """One visit of an `http` node."""

    def __init__(
        self, config: dict[str, Any], scope: dict[str, Any] | None = None, http: GuardedHttp = LOOPBACK
    ) -> None:
        self.config = HttpConfig.model_validate(config)
        self.harness = NodeHarness(scope, {"http": http})

    async def output(self) -> Any:
        outcome = await HttpNode().execute(self.config, self.harness.context)
        assert isinstance(outcome, Output)
        return outcome.value

    @property
    def logs(self) -> list[str]:
        return [event.message for event in self.harness.events if isinstance(event, LogRecorded)]


async def output(scope: dict[str, Any] | None = None, **config: Any) -> Any:
    return await HttpVisit(config, scope).output()


async def failure(http: GuardedHttp = LOOPBACK, scope: dict[str, Any] | None = None, **config: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as failed:
        async with asyncio.timeout(20):
            await HttpVisit(config, scope, http).output()
    return failed.value
