"""One node's attempts: what is tried again, and what is not although its node asks for it."""

import asyncio
from typing import Any, ClassVar

import pytest

from engine.errors import NodeFailure
from engine.graph.bound_node import BoundNode
from engine.runtime.attempts import run_attempts
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.spec.model import NodeSpec, Retry
from tests.engine.node_runner import NodeHarness


class NoConfig(NodeConfig):
    pass


class Stubborn(NodeType[NoConfig]):
    """Fails, also when it is told to stop: as a task group does in which something failed in the same moment."""

    name: ClassVar[str] = "stubborn"
    title: ClassVar[str] = "Stubborn"
    description: ClassVar[str] = "For tests."
    Config: ClassVar[type[NodeConfig]] = NoConfig

    def __init__(self, code: str, *, waits: bool) -> None:
        self.code, self.waits, self.tries = code, waits, 0
        self.running = asyncio.Event()

    async def execute(self, config: NoConfig, ctx: NodeContext) -> Output:
        self.tries += 1
        self.running.set()
        try:
            if self.waits:
                await asyncio.Event().wait()
        finally:
            raise NodeFailure(self.code, "it failed", retryable=False)


def tried(kind: Stubborn) -> Any:
    work = BoundNode(NodeSpec("n", kind.name, retry=Retry(max_attempts=3, backoff_s=0)), kind, NoConfig())
    return run_attempts(work, NodeHarness().context, lambda *_: None, lambda _: None)


async def test_a_node_that_fails_while_it_is_told_to_stop_is_not_tried_again() -> None:
    kind = Stubborn("NODE", waits=True)
    running = asyncio.create_task(tried(kind))
    await kind.running.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert kind.tries == 1


@pytest.mark.parametrize(("code", "tries"), [("NODE", 3), ("FENCED", 1), ("TEMPLATE", 1)])
async def test_what_is_wrong_for_good_is_not_tried_again(code: str, tries: int) -> None:
    kind = Stubborn(code, waits=False)
    result = await tried(kind)
    assert (result.error.code, result.attempts, kind.tries) == (code, tries, tries)
