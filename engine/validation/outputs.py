"""Warns of `outputs` that keep a question or a timer open which a `join: any` would end.

The rules are those of engine/graph/liveness.py, as far as the spec alone decides. Pure.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.expressions.evaluator import references
from engine.graph.bound_node import texts_of
from engine.problems import FieldProblem, join_path
from engine.sdk.node_types import NodeTypes
from engine.spec.model import Join, Spec
from engine.states import Severity
from engine.types import JSON

_ENDED_BY_JOINS = frozenset({"delay", "human"})
"""The built-in types whose wait ends as soon as it has no effect any more."""


MAX_STEPS = 100_000
"""Edges that are followed in one spec. In a larger one the rest is not checked."""


class _Branch(NamedTuple):
    """The nodes from a waiting one to the joins at which its paths end."""

    nodes: Collection[str]
    joins: Sequence[str]


def check_outputs(spec: Spec, types: NodeTypes) -> Iterator[FieldProblem]:
    """Find the outputs that refer to a branch which may be the later one of a `join: any`."""
    entries = Counter(edge.target for edge in spec.edges)
    joins = {node.id: node for node in spec.nodes if node.join is Join.ANY and entries[node.id] > 1}
    waiting = [node.id for node in spec.nodes if node.type in _ENDED_BY_JOINS] if joins and spec.outputs else []
    if not waiting:
        return
    branches = _Branches(spec, types, joins)
    names = {output: _names_in(template) for output, template in (spec.outputs or {}).items()}
    for start in waiting:
        branch = branches.find(start)
        if branch is not None and branch.joins and not any(joins[name].cancels_others for name in branch.joins):
            yield from _problems(start, branch, names)


class _Branches:
    """The branches of a spec. All of them together follow at most MAX_STEPS edges."""

    def __init__(self, spec: Spec, types: NodeTypes, joins: Collection[str]) -> None:
        self._targets: dict[str, list[str]] = {}
        for edge in spec.edges:
            self._targets.setdefault(edge.source, []).append(edge.target)
        kinds = {node.id: types.get(node.type) for node in spec.nodes}
        self._passive = {name for name, kind in kinds.items() if kind and kind.inline and not kind.ends_run}
        self._joins, self._steps = joins, 0

    def find(self, start: str) -> _Branch | None:
        """Return the branch of a waiting node; None if a node behind it keeps the wait open by itself."""
        seen, reached, stack = {start}, dict[str, None](), [start]
        for name in stack:  # grows
            for target in self._targets.get(name, ()):
                self._steps += 1
                if target in self._joins:
                    reached[target] = None
                elif target not in self._passive or self._steps > MAX_STEPS:
                    return None
                elif target not in seen:
                    seen.add(target)
                    stack.append(target)
        return _Branch(stack, list(reached))


def _names_in(template: JSON) -> frozenset[str]:
    return frozenset[str]().union(*(references(text) for text in texts_of(template)))


def _problems(start: str, branch: _Branch, names: Mapping[str, frozenset[str]]) -> Iterator[FieldProblem]:
    for output, used in names.items():
        name = next((name for name in branch.nodes if name in used or "nodes" in used), None)
        if name is not None:
            join = branch.joins[0]
            message = (
                f"this output refers to {name!r}, so {start!r} stays open after {join!r} has gone on with another "
                f"branch, and the run waits for it: refer to {join!r}, or give that node "
                '`join: {"mode": "any", "cancelOthers": true}`'
            )
            yield FieldProblem(join_path("outputs", output), "STAYS_OPEN", message, Severity.WARNING, start)
