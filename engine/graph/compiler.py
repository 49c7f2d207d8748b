"""Spec to LangGraph, cached by spec hash. A compiled graph holds no state of a run: that comes with the config of each call.

Nodes with one forward entry are started by `Send`; only real joins and loop headers have channels, so that a node costs
the same in a graph of 10 and of 1,000.
"""

from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
from engine.graph.channels import INPUT, JOIN_BARRIER, LOOP, NODE_RECORDS, JoinBarrier, NodeRecords, Signal, Write
from engine.graph.plan import Plan, PlanNode, is_joined_by_any, make_plan
from engine.sdk.node import NodeType
from engine.spec.model import Spec
from engine.spec.parser import parse
from engine.types import JSON

TURNS = "treadle_turns"
"""The config key under which a call carries its Turns."""
_START = "__treadle_start__"


class GraphCallbacks(Protocol):
    """What a compiled graph calls back: one node's turn, giving the channel writes that follow from it."""

    def begin(self) -> Sequence[Write]: ...
    async def turn(self, node: PlanNode, signal: Signal | None, again: Signal | None) -> Sequence[Write]: ...


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """A spec ready to run, shared by every run of the same content."""

    spec: Spec
    plan: Plan
    works: Mapping[str, BoundNode]
    graph: Pregel[Any, Any, Any, Any]

    def call(self, command: Any, run_id: str, turns: GraphCallbacks, control: RunControl) -> Coroutine[Any, Any, Any]:
        """Runs waves until none is due. Raises GraphDrained after the one in which `control` was asked for that."""
        config: RunnableConfig = {"configurable": {"thread_id": run_id, TURNS: turns}, "recursion_limit": 2**31}
        durability: Durability | None = "sync" if self.graph.checkpointer else None
        # What the graph would answer is in the run's memory already: it is asked for nothing.
        return self.graph.ainvoke(command, config, output_keys=[], durability=durability, control=control)


def compile_spec(
    spec: Spec, types: Mapping[str, NodeType[Any]], saver: BaseCheckpointSaver[int] | None = None
) -> CompiledGraph:
    """Raises PlanError for a graph that cannot be planned, SpecError for a node that its type refuses."""
    plan = make_plan(spec)
    channels: dict[str, BaseChannel[Any, Any, Any]] = {INPUT: EphemeralValue(bool), NODE_RECORDS: NodeRecords()}
    nodes: dict[str, PregelNode | NodeBuilder] = {_START: _pregel_node(_Begin(), INPUT, [INPUT])}
    for node in plan.nodes.values():
        triggers = []
        if node.needs_gate:
            triggers.append(JOIN_BARRIER + node.id)
            channels[JOIN_BARRIER + node.id] = JoinBarrier(len(node.entries), is_joined_by_any(node))
        if node.is_header:
            triggers.append(LOOP + node.id)
            channels[LOOP + node.id] = JoinBarrier(len(node.back_edges))
        nodes[node.id] = _pregel_node(_TurnOf(node), list(triggers), triggers)
    graph: Pregel[Any, Any, Any, Any] = Pregel(
        nodes=nodes,
        channels=dict(channels),
        input_channels=INPUT,
        output_channels=NODE_RECORDS,
        checkpointer=saver,
        auto_validate=True,
    )
    return CompiledGraph(spec, plan, bind_nodes(spec, types), graph)


def _pregel_node(bound: Runnable[Any, None], channels: str | list[str], triggers: list[str]) -> PregelNode:
    # `subgraphs` given, or LangGraph takes the code of every node apart to look for some.
    return PregelNode(channels=channels, triggers=triggers, bound=bound, writers=[], subgraphs=[])


def _emit(config: RunnableConfig, writes: Sequence[Write]) -> None:
    ChannelWrite.do_write(config, [ChannelWriteTupleEntry(mapper=_as_is, value=writes)])


def _as_is(writes: Any) -> Any:
    return writes


def _turns_of(config: RunnableConfig | None) -> GraphCallbacks:
    assert config is not None
    turns: GraphCallbacks = config["configurable"][TURNS]
    return turns


class _Asynchronous(Runnable[Any, None]):
    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> None:
        raise TypeError("our graphs run on an event loop alone")


class _Begin(_Asynchronous):
    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> None:
        _emit(config or {}, _turns_of(config).begin())


class _TurnOf(_Asynchronous):
    def __init__(self, node: PlanNode) -> None:
        self._node = node
        self._gate, self._loop = JOIN_BARRIER + node.id, LOOP + node.id

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> None:
        # A Send brings the signal itself, a trigger the values of the channels that are open.
        by_gate = isinstance(input, dict)
        signal = input.get(self._gate) if by_gate else Signal(*input)
        again = input.get(self._loop) if by_gate else None
        _emit(config or {}, await _turns_of(config).turn(self._node, signal, again))


class GraphCache:
    """The last `size` compiled graphs of one process, by spec hash."""

    def __init__(
        self, types: Mapping[str, NodeType[Any]], saver: BaseCheckpointSaver[int] | None, size: int = 256
    ) -> None:
        self._types, self._saver, self._size = types, saver, size
        self._graphs: OrderedDict[str, CompiledGraph] = OrderedDict()

    def known(self, spec_hash: str) -> CompiledGraph | None:
        """Spares the caller from loading a spec that is compiled already."""
        return self._graphs.get(spec_hash)

    def get(self, spec_hash: str, raw: JSON) -> CompiledGraph:
        found = self._graphs.get(spec_hash)
        if found is None:
            found = self._graphs[spec_hash] = compile_spec(parse(raw), self._types, self._saver)
            if len(self._graphs) > self._size:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(spec_hash)
        return found
