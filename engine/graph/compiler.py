"""Compile a spec to a LangGraph graph, and cache compiled graphs by spec hash.

A compiled graph holds no state of a run: each invocation brings the callbacks of its run in its
config. So all runs of equal specs share one graph, and a crash loses only the cache. Every node is
started by a `Send`. Which Sends follow from a settled node is decided by the position of the run
(engine.graph.position), which the callbacks keep.
"""

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cachetools import LRUCache
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.channels import EphemeralValue
from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.pregel._read import PregelNode
from langgraph.pregel._write import ChannelWrite, ChannelWriteTupleEntry
from langgraph.runtime import RunControl
from langgraph.types import Durability

from engine.graph.bound_node import BoundNode, bind_nodes
from engine.graph.channels import INPUT, Signal, Write
from engine.graph.liveness import Liveness
from engine.graph.plan import Plan, PlanNode, make_plan
from engine.sdk.node import NodeType
from engine.spec.model import Spec
from engine.spec.parser import parse
from engine.types import JSON

CALLBACKS = "treadle_callbacks"
"""The config key under which an invocation carries its GraphCallbacks."""


class GraphCallbacks(Protocol):
    """The functions that a graph calls for one run. Each returns the writes that follow."""

    async def run_node(self, node: PlanNode, signal: Signal) -> Sequence[Write]:
        """Run or start a node that is due, and run the inline nodes that follow at once.

        `signal` is the message of its Send.
        """
        ...


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """A spec that is ready to run. All runs with the same spec share it."""

    spec: Spec
    plan: Plan
    bound_nodes: Mapping[str, BoundNode]
    graph: Pregel[Any, Any, Any, Any]
    liveness: Liveness

    def invoke(self, run_id: str, callbacks: GraphCallbacks, control: RunControl) -> Coroutine[Any, Any, Any]:
        """Run supersteps from the head of a run, until no node is due.

        Args:
            run_id: The id of the run, which is LangGraph's thread id.
            callbacks: Called for each node that is due.
            control: Stops the invocation after the current superstep.

        Raises:
            GraphDrained: `control` has stopped the invocation before all due nodes have run.
        """
        config: RunnableConfig = {
            "configurable": {"thread_id": run_id, CALLBACKS: callbacks},
            "recursion_limit": 2**31,
        }
        durability: Durability | None = "sync" if self.graph.checkpointer else None
        # The state of the run already has all results, so the graph need not return any.
        return self.graph.ainvoke(None, config, output_keys=[], durability=durability, control=control)


def compile_spec(
    spec: Spec, types: Mapping[str, NodeType[Any]], saver: BaseCheckpointSaver[int] | None = None
) -> CompiledGraph:
    """Compile a spec.

    Raises:
        PlanError: The graph cannot be planned.
        SpecError: The type of a node does not exist, or rejects its config.
    """
    plan = make_plan(spec)
    channels: dict[str, BaseChannel[Any, Any, Any]] = {INPUT: EphemeralValue(bool)}
    nodes: dict[str, PregelNode | NodeBuilder] = {
        # Without `subgraphs`, LangGraph inspects the code of every node to look for subgraphs.
        node.id: PregelNode(channels=[], triggers=[], bound=_NodeRunnable(node), writers=[], subgraphs=[])
        for node in plan.nodes.values()
    }
    graph: Pregel[Any, Any, Any, Any] = Pregel(
        nodes=nodes,
        channels=dict(channels),
        input_channels=INPUT,
        output_channels=INPUT,
        checkpointer=saver,
        # LangGraph demands a node that reads the input. Here every node is started by a Send.
        auto_validate=False,
    )
    bound_nodes = bind_nodes(spec, types)
    return CompiledGraph(spec, plan, bound_nodes, graph, Liveness(spec, plan, bound_nodes))


def _emit(config: RunnableConfig, writes: Sequence[Write]) -> None:
    ChannelWrite.do_write(config, [ChannelWriteTupleEntry(mapper=_identity, value=writes)])


def _identity(writes: Any) -> Any:
    return writes


def _callbacks_of(config: RunnableConfig | None) -> GraphCallbacks:
    assert config is not None
    callbacks: GraphCallbacks = config["configurable"][CALLBACKS]
    return callbacks


class _NodeRunnable(Runnable[Any, None]):
    def __init__(self, node: PlanNode) -> None:
        self._node = node

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> None:
        raise TypeError("a compiled graph runs only on an event loop: call ainvoke")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> None:
        _emit(config or {}, await _callbacks_of(config).run_node(self._node, Signal(*input)))


class GraphCache:
    """The `size` last used compiled graphs of one process, by spec hash."""

    def __init__(
        self, types: Mapping[str, NodeType[Any]], saver: BaseCheckpointSaver[int] | None, size: int = 256
    ) -> None:
        self._types, self._saver = types, saver
        self._graphs: LRUCache[str, CompiledGraph] = LRUCache(size)

    def peek(self, spec_hash: str) -> CompiledGraph | None:
        """Return a graph if it is cached, so that the caller need not load the spec."""
        return self._graphs.get(spec_hash)

    def get(self, spec_hash: str, raw: JSON) -> CompiledGraph:
        """Return the graph of a spec, compiled if it is not cached.

        Raises:
            PlanError: The graph cannot be planned.
            SpecError: The spec is not valid in this installation.
        """
        compiled = self._graphs.get(spec_hash)
        if compiled is None:
            compiled = self._graphs[spec_hash] = compile_spec(parse(raw), self._types, self._saver)
        return compiled
