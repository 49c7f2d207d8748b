"""The attempts of a node: some failures are not retried although the spec asks for it."""

import asyncio
from typing import Any, ClassVar

import pytest

from engine.errors import NodeFailure
from engine.graph.bound_node import BoundNode
from engine.runtime.attempts import MAX_MESSAGE, run_attempts
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.spec.model import NodeSpec, Retry
from tests.engine.node_runner import NodeHarness


class FailingConfig(NodeConfig):
    pass


class FailingNode(NodeType[FailingConfig]):
    """Fails, also when it is cancelled, like a task group with a failure at that moment."""

    name: ClassVar[str] = "failing"
    title: ClassVar[str] = "Failing"
    description: ClassVar[str] = "For tests."
    Config: ClassVar[type[NodeConfig]] = FailingConfig

    def __init__(self, code: str, *, waits: bool, retryable: bool = False) -> None:
        self.code, self.waits, self.retryable, self.count = code, waits, retryable, 0
        self.running = asyncio.Event()

    async def execute(self, config: FailingConfig, ctx: NodeContext) -> Output:
        self.count += 1
        self.running.set()
        try:
            if self.waits:
                await asyncio.Event().wait()
        finally:
            raise NodeFailure(self.code, "it failed", retryable=self.retryable)


def attempts_of(node_type: FailingNode) -> Any:
    node = BoundNode(
        NodeSpec("n", node_type.name, retry=Retry(max_attempts=3, backoff_s=0)), node_type, FailingConfig()
    )
    return run_attempts(node, NodeHarness().context)


async def test_a_node_that_fails_while_it_is_cancelled_is_not_retried() -> None:
    node_type = FailingNode("NODE", waits=True, retryable=True)
    running = asyncio.create_task(attempts_of(node_type))
    await node_type.running.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert node_type.count == 1


@pytest.mark.parametrize(("retryable", "count"), [(True, 3), (False, 1)])
async def test_only_a_retryable_error_is_retried(retryable: bool, count: int) -> None:
    node_type = FailingNode("OWN", waits=False, retryable=retryable)
    result = await attempts_of(node_type)
    assert (result.error.code, result.attempts, node_type.count) == ("OWN", count, count)


class RaisingOsErrorNode(FailingNode):
    """Raises an exception of its own, as a package may."""

    async def execute(self, config: FailingConfig, ctx: NodeContext) -> Output:
        raise OSError(f"cannot connect to db.internal with {'x' * 20_000}\0")


async def test_an_exception_of_a_package_is_shown_in_its_words_up_to_a_limit() -> None:
    result = await attempts_of(RaisingOsErrorNode("NODE", waits=False))
    assert result.error is not None
    assert result.error.code == "NODE"
    assert result.error.message.startswith("OSError: cannot connect to db.internal with xxx")
    assert result.error.message.endswith("characters)")
    assert len(result.error.message) < MAX_MESSAGE + 50
