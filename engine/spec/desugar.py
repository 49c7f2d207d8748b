"""Replace the shorthand of single node types by the plain form of a spec.

A conditional may name its branches in `true_edge` and `false_edge`, which become edges. An `end`
without an output gets the list of the nodes before it, whose outputs it passes on. Both are
computed from the spec only.
"""

from collections.abc import Sequence
from dataclasses import replace

from engine.spec.identity import new_edge_id
from engine.spec.model import END, START, EdgeSpec, NodeSpec, Spec
from engine.types import JSON

CONDITIONAL = "conditional"
BRANCHES = {"true_edge": "true", "false_edge": "false"}
"""The config fields of a conditional that mean edges, with their ports."""
PASSES = "__passes__"
"""The config field of an `end` node with the nodes before it."""
START_STATE = "{'output': input, 'status': 'COMPLETED'}"
"""An expression with the output and status that an edge from `__start__` passes on."""


def move_fields_to_config(item: JSON) -> JSON:
    """Move the fields of a conditional that are on the raw node itself into its config."""
    if not isinstance(item, dict) or item.get("type") != CONDITIONAL:
        return item
    config = {} if item.get("config") is None else item["config"]
    fields = {key: item[key] for key in ("condition", *BRANCHES) if key in item}
    if not fields or not isinstance(config, dict):
        return item
    return {**{key: value for key, value in item.items() if key not in fields}, "config": {**fields, **config}}


def add_branch_edges(spec: Spec, node_indexes: Sequence[int]) -> tuple[Spec, list[str]]:
    """Replace `true_edge` and `false_edge` of conditionals by edges with a port.

    If such a field names an existing edge or its target, that edge gets the port.

    Args:
        spec: The spec.
        node_indexes: The index of each node in the raw spec.

    Returns:
        The spec with the new edges at its end, and the path in the raw spec of each new edge.
    """
    edges = _Edges(spec.edges)
    ids = {node.id for node in spec.nodes}
    added: list[str] = []
    for node, index in zip(spec.nodes, node_indexes, strict=True):
        if node.type == CONDITIONAL:
            for key, port in BRANCHES.items():
                target = node.config.get(key)
                if isinstance(target, str) and edges.add_branch(node, port, target, target in ids or target == END):
                    added.append(f"nodes[{index}].config.{key}")
    return replace(spec, edges=tuple(edges.all)), added


class _Edges:
    """The edges of a spec, indexed by source, so that adding a branch does not search all edges."""

    def __init__(self, edges: Sequence[EdgeSpec]) -> None:
        self.all = list(edges)
        self._taken = dict.fromkeys((edge.id for edge in edges), 0)
        self._by_source: dict[str, list[int]] = {}
        for at, edge in enumerate(edges):
            self._by_source.setdefault(edge.source, []).append(at)

    def add_branch(self, node: NodeSpec, port: str, target: str, is_node: bool) -> bool:
        """Add the edge of a branch, or give the port to an existing edge.

        Args:
            node: The conditional.
            port: The port of the branch.
            target: The id of a node or, if not `is_node`, of an edge.
            is_node: Whether `target` is the id of a node.

        Returns:
            Whether a new edge was added.
        """
        # If both branches lead to one node, an edge without a port leaves by both of them already.
        is_same_target = all(node.config.get(key) == target for key in BRANCHES)
        indexes = self._by_source.setdefault(node.id, [])
        for at in indexes:
            edge = self.all[at]
            is_branch = edge.target == target if is_node else edge.id == target
            if is_branch and edge.port in (None, port):
                if not is_same_target:
                    self.all[at] = replace(edge, port=port)
                return False
        indexes.append(len(self.all))
        self.all.append(EdgeSpec(new_edge_id(node.id, port, target, self._taken), node.id, target, port))
        return True


def add_passed_nodes(spec: Spec) -> Spec:
    """Add the list of the nodes before it to the config of each `end` that has no output."""
    ends = {node.id for node in spec.nodes if node.type == "end" and "output" not in node.config}
    if not ends:
        return spec
    ids = {node.id for node in spec.nodes}
    sources: dict[str, list[dict[str, JSON]]] = {node_id: [] for node_id in ends}
    for edge in spec.edges:
        if edge.target in ends and (edge.source == START or edge.source in ids):
            is_choice = edge.port is not None or edge.condition is not None
            sources[edge.target].append({"id": edge.source, "is_choice": is_choice, "seen": _state_of(edge.source)})
    nodes = (
        replace(node, config={**node.config, PASSES: sources[node.id]}) if sources.get(node.id) else node
        for node in spec.nodes
    )
    return replace(spec, nodes=tuple(nodes))


def _state_of(node_id: str) -> str:
    """Return an expression with the output and status of a node."""
    # Validation refuses ids with these characters.
    quoted = node_id.replace("\\", "").replace('"', "")
    return START_STATE if node_id == START else f'nodes["{quoted}"]'
