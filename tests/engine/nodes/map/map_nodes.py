"""Run `map` nodes, with a node type for their items and a store of items that may fail."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from engine.errors import NodeFailure
from engine.events import Usage
from engine.graph.bound_node import BoundNode
from engine.isolation.suspension import suspendable
from engine.nodes.registry import load_node_types
from engine.runtime.attempts import NodeResult, run_attempts
from engine.runtime.ports import Fenced
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Outcome, Output, WaitForAnswer
from engine.sdk.node_types import NodeTypes
from engine.sdk.resources import DoneItem, MapVisit
from engine.spec.model import NodeSpec
from engine.states import LogLevel
from engine.types import JSON
from tests.engine.node_runner import NodeHarness


class ProbeConfig(NodeConfig):
    sees: Any = None
    does: str = "output"


ProbeConfig.model_fields["sees"].json_schema_extra = {"format": "template"}
ProbeConfig.model_rebuild(force=True)


class MapProbe(NodeType[ProbeConfig]):
    """Returns the value of `sees` after one turn of the event loop, or misbehaves as `does` says.

    `ran` counts the executions by idempotency key.
    """

    name = "probe"
    title = "Probe"
    description = "For tests."
    Config = ProbeConfig

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.running = self.most = 0
        self.hanging = asyncio.Event()

    async def execute(self, config: ProbeConfig, ctx: NodeContext) -> Outcome:
        self.ran[ctx.idempotency_key] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._execute(config, ctx)
        finally:
            self.running -= 1

    async def _execute(self, config: ProbeConfig, ctx: NodeContext) -> Outcome:
        value = ctx.render(config.sees)
        ctx.log(LogLevel.INFO, f"sees {value}", value=value)
        ctx.add_usage(Usage("model", 3, 2, 0.5))
        ctx.text("said")
        await asyncio.sleep(0)
        match ctx.render(config.does):
            case "fail":
                raise NodeFailure("TEST", f"no {value}", details={"of": ctx.node_id})
            case "explain":
                raise NodeFailure("TEST", "no", details=value)
            case "busy":
                raise NodeFailure("TEST", "busy", retryable=True, details=value)
            case "raise":
                raise ValueError(f"cannot {value}")
            case "wait":
                return WaitForAnswer("?")
            case "nan":
                return Output(float("nan"))
            case "once" if self.ran[ctx.idempotency_key] == 1:
                raise NodeFailure("TEST", "not yet", retryable=True)
            case "hang":
                self.hanging.set()
                await asyncio.Event().wait()
        return Output(value)


class MemoryItems:
    """The resource `items` in memory.

    It stores nothing any more once `is_dead`, and raises Fenced once `is_fenced`.
    """

    def __init__(self) -> None:
        self.items: dict[int, DoneItem] = {}
        self.is_dead = self.is_fenced = False

    async def load(self, visit: MapVisit) -> list[DoneItem]:
        return list(self.items.values())

    async def save(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        await asyncio.sleep(0)
        if self.is_fenced:
            raise Fenced("another worker has claimed the run")
        if not self.is_dead:
            self.items |= {item.index: item for item in items}


def types_with(probe: MapProbe) -> NodeTypes:
    return NodeTypes([*load_node_types().values(), probe])


async def run_map(harness: NodeHarness, probe: MapProbe, **config: Any) -> JSON:
    harness.context.types = types_with(probe)
    kind = harness.context.types["map"]
    outcome = await kind.execute(kind.Config.model_validate(config), harness.context)
    assert isinstance(outcome, Output)
    return outcome.value


async def run_map_with_attempts(harness: NodeHarness, probe: MapProbe, **config: Any) -> NodeResult:
    """Run a map as a run does: with its secrets, and with a failure as the error of the result."""
    harness.context.types = types_with(probe)
    kind = harness.context.types["map"]
    work = BoundNode(
        NodeSpec("n", "map", config=config), kind, kind.Config.model_validate(config), types=harness.context.types
    )
    return await suspendable(run_attempts(work, harness.context))
