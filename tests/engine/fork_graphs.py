"""Graphs for tests of forks. A changed output changes the outputs of all nodes after it."""

from typing import Any

from hypothesis import strategies as st

Edge = dict[str, Any]


def mix_spec(edges: str, conditions: dict[str, str] | None = None, slow: str = "", **fields: Any) -> dict[str, Any]:
    """Return a spec of mix nodes with the edges `a>b b>c`.

    Args:
        edges: The edges.
        conditions: Conditions by edge. `{n}` is the visit and `{v}` the value of its source.
        slow: The nodes that run as tasks beside the graph.
        fields: More fields of a node, by its id.
    """
    pairs = [tuple(pair.split(">")) for pair in edges.split()]
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    nodes = [
        {
            "id": name,
            "type": "slow" if name in slow.split() else "mix",
            "config": {"sees": [f"{{{{ {s}.output }}}}" for s, t in pairs if t == name]},
            **fields.get(name, {}),
        }
        for name in names
    ]
    return {"nodes": nodes, "edges": [_edge(s, t, (conditions or {}).get(f"{s}>{t}")) for s, t in pairs]}


def _edge(source: str, target: str, condition: str | None) -> Edge:
    expression = condition and condition.replace("{n}", f"{source}.output.n").replace("{v}", f"{source}.output.v")
    return {"id": f"{source}>{target}", "source": source, "target": target, "condition": expression}


def pin_outputs(raw: dict[str, Any], pins: dict[tuple[str, int], Any]) -> dict[str, Any]:
    """Return the same spec with fixed outputs by node and visit."""
    by_node: dict[str, dict[int, Any]] = {}
    for (name, visit), output in pins.items():
        by_node.setdefault(name, {})[visit] = output
    nodes = [
        {**node, "config": {**node["config"], "pins": by_node[node["id"]]}} if node["id"] in by_node else node
        for node in raw["nodes"]
    ]
    return {**raw, "nodes": nodes}


LOOPS: dict[str, dict[str, Any]] = {
    "a join inside": mix_spec(
        "s>h h>b h>c b>j c>j j>h j>x x>y s>y",
        {"j>h": "{n} < 3", "j>x": "{n} >= 3", "h>b": "{v} % 2 == 1", "h>c": "{v} % 3 != 1"},
        slow="b j",
    ),
    "an exit that may never be taken": mix_spec(
        "s>h h>j j>h j>x x>y s>y h>z",
        {"j>h": "{n} < 3", "j>x": "{n} >= 3 and {v} % 2 == 1", "h>z": "{n} >= 3 and {v} % 5 == 0"},
        slow="h",
    ),
    "two parallel back edges": mix_spec(
        "s>h h>a h>b b>b2 a>h b2>h a>x", {"a>h": "{n} < 3", "b2>h": "{n} < 2", "a>x": "{n} >= 3"}, slow="b2"
    ),
    "nested": mix_spec(
        "s>o o>i i>k k>i k>e e>o e>x",
        {"k>i": "{n} % 3 != 0", "k>e": "{n} % 3 == 0", "e>o": "{n} < 2", "e>x": "{n} >= 2"},
        slow="k e",
    ),
    "entered or not": mix_spec("s>h h>j j>h j>x x>y s>y", {"s>h": "{v} % 2 == 0", "j>h": "{n} < 3", "j>x": "{n} >= 3"}),
    "to itself": mix_spec("s>h h>h h>x s>y x>y", {"h>h": "{n} < 4", "h>x": "{n} >= 4"}, slow="h s"),
    "a slow branch beside": mix_spec("s>h h>w w>h w>x s>q q>z x>z", {"w>h": "{n} < 4", "w>x": "{n} >= 4"}, slow="w q"),
}


@st.composite
def dags(draw: st.DrawFn) -> dict[str, Any]:
    """Random acyclic graphs of quick and slow nodes, with conditions on values."""
    size = draw(st.integers(2, 9))
    pairs = [f"n{i}>n{j}" for i in range(size) for j in range(i + 1, size) if draw(st.integers(0, 9)) < 4]
    pairs = pairs or ["n0>n1"]
    conditions = {pair: draw(st.sampled_from(["{v} % 2 == 0", "{v} % 3 == 0", "true"])) for pair in pairs}
    conditions = {pair: condition for pair, condition in conditions.items() if condition != "true"}
    slow = " ".join(f"n{i}" for i in range(size) if draw(st.booleans()))
    raw = mix_spec(" ".join(pairs), conditions, slow)
    for node in raw["nodes"]:
        node["config"]["turns"] = draw(st.integers(0, 3)) if node["type"] == "slow" else 0
    return raw


def reachable(raw: dict[str, Any], root: str) -> set[str]:
    """Return all nodes that a path from `root` leads to."""
    nodes: set[str] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        for edge in raw["edges"]:
            if edge["source"] == node and edge["target"] not in nodes:
                nodes.add(edge["target"])
                pending.append(edge["target"])
    return nodes
