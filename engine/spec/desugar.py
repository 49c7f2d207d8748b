"""What single node types imply: a conditional's own fields are edges, and an `end` without output passes on what comes to it.

Worked out from the spec alone, before anything runs.
"""

from collections.abc import Sequence
from dataclasses import replace

from engine.spec.identity import free_id
from engine.spec.model import END, START, EdgeSpec, NodeSpec, Spec
from engine.types import JSON

CONDITIONAL = "conditional"
BRANCHES = {"true_edge": "true", "false_edge": "false"}
FROM_START = "{'output': input, 'status': 'COMPLETED'}"


def lifted(item: JSON) -> JSON:
    """A conditional's fields that stand on the node itself, put into its config."""
    if not isinstance(item, dict) or item.get("type") != CONDITIONAL:
        return item
    config = {} if item.get("config") is None else item["config"]
    lifted = {key: item[key] for key in ("condition", *BRANCHES) if key in item}
    if not lifted or not isinstance(config, dict):
        return item
    return {**{key: value for key, value in item.items() if key not in lifted}, "config": {**lifted, **config}}


def with_implied_edges(spec: Spec, node_at: Sequence[int]) -> tuple[Spec, list[str]]:
    """Turns `true_edge` and `false_edge` into edges with a port, or gives the port to the edge that is meant.

    Also says where in the raw spec each new edge comes from.
    """
    edges = _Edges(spec.edges)
    ids = {node.id for node in spec.nodes}
    added: list[str] = []
    for node, index in zip(spec.nodes, node_at, strict=True):
        if node.type == CONDITIONAL:
            for key, port in BRANCHES.items():
                to = node.config.get(key)
                if isinstance(to, str) and edges.add_branch(node, port, to, to in ids or to == END):
                    added.append(f"nodes[{index}].config.{key}")
    return replace(spec, edges=tuple(edges.all)), added


class _Edges:
    """Edges, to which branches are added. By source and id, so that many conditionals in a large graph cost no more."""

    def __init__(self, edges: Sequence[EdgeSpec]) -> None:
        self.all = list(edges)
        self._taken = dict.fromkeys((edge.id for edge in edges), 0)
        self._out: dict[str, list[int]] = {}
        for at, edge in enumerate(edges):
            self._out.setdefault(edge.source, []).append(at)

    def add_branch(self, node: NodeSpec, port: str, to: str, is_node: bool) -> bool:
        """Whether it took a new edge. `to` is a node's id or, if not `is_node`, an edge's."""
        # Both branches to one node: an edge without a port already leaves by either.
        both = {node.config.get(key) for key in BRANCHES} == {to}
        out = self._out.setdefault(node.id, [])
        for at in out:
            edge = self.all[at]
            is_meant = edge.target == to if is_node else edge.id == to
            if is_meant and edge.port in (None, port):
                if not both:
                    self.all[at] = replace(edge, port=port)
                return False
        out.append(len(self.all))
        self.all.append(EdgeSpec(free_id(node.id, port, to, self._taken), node.id, to, port))
        return True


def with_passed_on(spec: Spec) -> Spec:
    """Gives each `end` that has no output of its own the nodes that lead to it, for its config to look at."""
    silent = {node.id for node in spec.nodes if node.type == "end" and "output" not in node.config}
    if not silent:
        return spec
    ids = {node.id for node in spec.nodes}
    into: dict[str, list[dict[str, JSON]]] = {node_id: [] for node_id in silent}
    for edge in spec.edges:
        if edge.target in silent and (edge.source == START or edge.source in ids):
            is_choice = edge.port is not None or edge.condition is not None
            into[edge.target].append({"id": edge.source, "is_choice": is_choice, "seen": _seen(edge.source)})
    nodes = (
        replace(node, config={**node.config, PASSES: into[node.id]}) if into.get(node.id) else node
        for node in spec.nodes
    )
    return replace(spec, nodes=tuple(nodes))


def _seen(node_id: str) -> str:
    """An expression that gives a node's output and status."""
    quoted = node_id.replace("\\", "").replace('"', "")  # an id with those in it is refused anyway
    return FROM_START if node_id == START else f'nodes["{quoted}"]'


PASSES = "__passes__"
