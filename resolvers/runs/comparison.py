"""Compare two runs: status, times, cost, and the outputs of their nodes. Nothing here writes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from engine.isolation.computation import compute
from engine.types import JSON
from engine.values.json_diff import FieldDiff, json_diff
from engine.values.large_values import is_large
from persistence.db.json_text import JsonText
from persistence.db.response_budget import reserve
from persistence.problems import NotFound
from persistence.runs.run import Run
from resolvers.context import Context
from resolvers.runs.large_values import run_value
from resolvers.runs.queries import NodeView, duration_ms, node_value, node_views
from resolvers.workflows.differences import compare_specs


@dataclass(frozen=True, slots=True)
class NodeComparison:
    """One node of two runs, by its id in the second one. A side is None if its version lacks the node."""

    node_id: str
    previous_id: str | None
    a: NodeView | None
    b: NodeView | None

    @property
    def duration_delta_ms(self) -> float | None:
        """How much longer the visit took in the second run."""
        return _delta(*(view.duration_ms if view else None for view in (self.a, self.b)))

    @property
    def cost_delta_usd(self) -> float | None:
        """How much more the model calls of the visit cost in the second run."""
        return _delta(*(_cost([view]) if view else None for view in (self.a, self.b)))


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs, and their nodes in the order of the second one's spec."""

    a: Run
    b: Run
    nodes: list[NodeComparison]

    @property
    def is_same_status(self) -> bool:
        return self.a.status is self.b.status

    @property
    def duration_delta_ms(self) -> float | None:
        """How much longer the second run took."""
        return _delta(*(duration_ms(run.started_at, run.finished_at) for run in (self.a, self.b)))

    @property
    def cost_usd_a(self) -> float | None:
        return _cost(node.a for node in self.nodes)

    @property
    def cost_usd_b(self) -> float | None:
        return _cost(node.b for node in self.nodes)


async def compare_runs(context: Context, a: str, b: str) -> RunComparison:
    """Compare two runs, also of different versions: a renamed node is compared with itself.

    Raises:
        NotFound: One of them does not exist, or is hidden from the caller.
        TooManyEvaluations: Too many comparisons of the caller wait already.
        Limit: The nodes do not fit into the response.
    """
    runs = [await context.loaders.run.load(id) for id in (a, b)]
    for id, run in zip((a, b), runs, strict=True):
        if run is None:
            raise NotFound(id)
    one, other = (run for run in runs if run is not None)
    old_ids = await _old_ids(context, one, other)
    before = {view.state.node_id: view for view in await node_views(context, one.id)}
    after = await node_views(context, other.id)
    reserve(len(before) + len(after))
    nodes = [_pair(before, view, old_ids) for view in after]
    rest = [NodeComparison(id, None, view, None) for id, view in before.items()]
    return RunComparison(one, other, [*nodes, *rest])


def _pair(before: dict[str, NodeView], view: NodeView, old_ids: dict[str, str]) -> NodeComparison:
    """Pair a node with the one of the first run, and take that one out of `before`."""
    node_id = view.state.node_id
    previous_id = old_ids.get(node_id)
    return NodeComparison(node_id, previous_id, before.pop(previous_id or node_id, None), view)


async def _old_ids(context: Context, one: Run, other: Run) -> dict[str, str]:
    """Return the ids of renamed nodes in the first run by their ids in the second one."""
    if one.version_id == other.version_id:
        return {}
    specs = [await context.loaders.version.load(run.version_id) for run in (one, other)]
    before, after = (None if version is None else version.spec for version in specs)
    diff = await compare_specs(context, before, after)
    return {node.node_id: node.previous_id for node in diff.nodes if node.previous_id is not None}


async def output_differences(context: Context, node: NodeComparison) -> list[FieldDiff]:
    """Return the fields of the outputs of a node that differ; a missing node has the output null."""
    before, after = [
        None if view is None else await node_value(context, view.state, "output") for view in (node.a, node.b)
    ]
    return await value_differences(before, after)


async def run_differences(context: Context, found: RunComparison, name: Literal["inputs", "output"]) -> list[FieldDiff]:
    """Return the fields of the inputs or outputs of two runs that differ. Raises Limit."""
    before, after = [await run_value(context, run, name) for run in (found.a, found.b)]
    return await value_differences(before, after)


async def value_differences(*values: JSON | JsonText) -> list[FieldDiff]:
    """Return the fields of two values that differ. Large values are compared in a thread. Raises Limit."""
    before, after = [await compute(value.value) if isinstance(value, JsonText) else value for value in values]
    is_long = is_large(before) or is_large(after)
    found = await compute(json_diff, before, after) if is_long else json_diff(before, after)
    reserve(len(found))
    return found


def _delta(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _cost(views: Iterable[NodeView | None]) -> float | None:
    """Sum the cost of the model calls. None if the price of a model that was called is not known."""
    usages = [view.state.usage for view in views if view is not None and view.state.usage is not None]
    costs = [usage.cost_usd for usage in usages if usage.cost_usd is not None]
    return sum(costs) if len(costs) == len(usages) else None
