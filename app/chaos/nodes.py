"""The node types of the chaos workflows: built-in types that record every execution, and two more.

Workers load them by the entry point `treadle.nodes` of a package that the suite writes to its
temporary folder. Servers and workers outside of the suite do not know them.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from app.chaos import wrong_clock
from app.chaos.execution_log import recorded
from engine.errors import NodeFailure
from engine.nodes import delay, subworkflow, transform, wait_event
from engine.nodes.code import node
from engine.nodes.registry import GROUP
from engine.sdk.node import (
    NodeConfig,
    NodeContext,
    NodeType,
    Output,
    WaitForAnswer,
    WaitForEvent,
    WaitForRun,
    WaitUntil,
)
from engine.types import JSON

wrong_clock.install()


class ChaosTransform(transform.TransformNode):
    """The type `transform`, with recorded executions."""

    name: ClassVar[str] = "chaos_transform"

    async def execute(self, config: transform.TransformConfig, ctx: NodeContext) -> Output:
        with recorded(ctx):
            return await super().execute(config, ctx)


class ChaosCode(node.CodeNode):
    """The type `code`, with recorded executions."""

    name: ClassVar[str] = "chaos_code"

    async def execute(self, config: node.CodeConfig, ctx: NodeContext) -> Output:
        with recorded(ctx):
            return await super().execute(config, ctx)


class ChaosDelay(delay.DelayNode):
    """The type `delay`, with recorded executions."""

    name: ClassVar[str] = "chaos_delay"

    async def execute(self, config: delay.DelayConfig, ctx: NodeContext) -> WaitUntil:
        with recorded(ctx):
            return await super().execute(config, ctx)


class ChaosSubworkflow(subworkflow.SubworkflowNode):
    """The type `subworkflow`, with recorded executions."""

    name: ClassVar[str] = "chaos_subworkflow"

    async def execute(self, config: subworkflow.SubworkflowConfig, ctx: NodeContext) -> WaitForRun:
        with recorded(ctx):
            return await super().execute(config, ctx)


class ChaosWaitEvent(wait_event.WaitEventNode):
    """The type `wait_event`, with recorded executions."""

    name: ClassVar[str] = "chaos_wait_event"

    async def execute(self, config: wait_event.WaitEventConfig, ctx: NodeContext) -> WaitForEvent:
        with recorded(ctx):
            return await super().execute(config, ctx)


class ChaosWorkConfig(NodeConfig):
    """`failures` is the number of attempts that fail before one succeeds."""

    output: JSON = Field(None, json_schema_extra={"format": "template"})
    seconds: float = 0.0
    failures: int = 0


class ChaosWork(NodeType[ChaosWorkConfig]):
    """Sleeps, as a node that calls an external service waits; then fails, or returns `output`."""

    name: ClassVar[str] = "chaos_work"
    title: ClassVar[str] = "ChaosWork"
    description: ClassVar[str] = "A node type of the chaos suite."
    Config: ClassVar[type[NodeConfig]] = ChaosWorkConfig

    async def execute(self, config: ChaosWorkConfig, ctx: NodeContext) -> Output:
        with recorded(ctx):
            output = ctx.render(config.output)
            ctx.progress(0.5)
            await asyncio.sleep(config.seconds)
            if ctx.attempt <= config.failures:
                raise NodeFailure("FLAKY", f"attempt {ctx.attempt} fails on purpose", retryable=True)
            return Output(output)


class ChaosAskConfig(NodeConfig):
    """`expiresS` is the number of seconds until the question expires."""

    expires_s: float = Field(3600, alias="expiresS")


class ChaosAsk(NodeType[ChaosAskConfig]):
    """Asks a person for a number."""

    name: ClassVar[str] = "chaos_ask"
    title: ClassVar[str] = "ChaosAsk"
    description: ClassVar[str] = "A node type of the chaos suite."
    Config: ClassVar[type[NodeConfig]] = ChaosAskConfig
    ports: ClassVar[tuple[str, ...]] = ("answered", "expired")

    async def execute(self, config: ChaosAskConfig, ctx: NodeContext) -> WaitForAnswer:
        with recorded(ctx):
            until = datetime.now(UTC) + timedelta(seconds=config.expires_s)
            return WaitForAnswer("How many?", {"type": "integer"}, until)


TYPES: tuple[type[NodeType[Any]], ...] = (
    *(ChaosTransform, ChaosCode, ChaosDelay, ChaosSubworkflow, ChaosWaitEvent, ChaosWork, ChaosAsk),
)


def install(folder: Path) -> Path:
    """Write the metadata of a package with the entry points of all types.

    Returns:
        The folder to add to PYTHONPATH.
    """
    package = folder / "packages"
    metadata = package / "treadle_chaos-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: treadle-chaos\nVersion: 1\n")
    lines = [f"{kind.name} = {kind.__module__}:{kind.__name__}" for kind in TYPES]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    return package
