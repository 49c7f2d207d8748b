"""The node types there are: the built-in ones, and those of installed packages by the entry point `treadle.nodes`.

A package that cannot be loaded takes nobody along: it is left out and named in `broken`.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engine.errors import NotStorable
from engine.nodes.ai.agent import AgentNode
from engine.nodes.ai.llm import LlmNode
from engine.nodes.code.node import CodeNode
from engine.nodes.conditional import ConditionalNode
from engine.nodes.delay import DelayNode
from engine.nodes.end import EndNode
from engine.nodes.http.node import HttpNode
from engine.nodes.human import HumanNode
from engine.nodes.map.node import MapNode
from engine.nodes.start import StartNode
from engine.nodes.subworkflow import SubworkflowNode
from engine.nodes.switch import SwitchNode
from engine.nodes.tool import ToolNode
from engine.nodes.transform import TransformNode
from engine.sdk.node import NodeConfig, NodeType
from engine.sdk.node_types import NodeTypes
from engine.sdk.plugins import load_error
from engine.values.storable import check_storable

GROUP = "treadle.nodes"
BUILT_IN: tuple[type[NodeType[Any]], ...] = (
    StartNode,
    EndNode,
    TransformNode,
    ConditionalNode,
    SwitchNode,
    CodeNode,
    DelayNode,
    HumanNode,
    HttpNode,
    LlmNode,
    ToolNode,
    AgentNode,
    SubworkflowNode,
    MapNode,
)


def load_node_types() -> NodeTypes:
    """Built-in types first: a package cannot replace one."""
    types: dict[str, NodeType[Any]] = {kind.name: kind() for kind in BUILT_IN}
    broken: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        try:
            kind = _loaded(entry)
            if kind.name in types:
                raise ValueError(f"there is a node type {kind.name!r} already")
            types[kind.name] = kind
        except (Exception, SystemExit) as fault:  # whatever a stranger's module raises when it is imported
            broken[entry.name] = load_error(entry, fault)
    return NodeTypes(types.values(), broken)


def _loaded(entry: EntryPoint) -> NodeType[Any]:
    found = entry.load()
    kind = found() if isinstance(found, type) else found
    if not isinstance(kind, NodeType):
        raise TypeError("is no NodeType")
    for name in ("name", "title", "description", "Config"):
        if not hasattr(kind, name):
            raise TypeError(f"has no `{name}`")
    if not issubclass(kind.Config, NodeConfig):
        raise TypeError("its Config is no NodeConfig")
    _check_told(kind)
    return kind


def _check_told(kind: NodeType[Any]) -> None:
    """What the catalog tells of it has to be JSON: it is told together with that of all others. Raises."""
    texts = (kind.name, kind.title, kind.description, kind.category, kind.icon)
    if not all(isinstance(text, str) for text in (*texts, *kind.ports)):
        raise TypeError("its name, title, description, category, icon and ports have to be texts")
    told = {"Config": kind.Config.model_json_schema(), "output_schema": kind.output_schema, "example": kind.example}
    for name, value in told.items():
        try:
            check_storable(value)
        except NotStorable as wrong:
            raise TypeError(f"its {name} is no JSON: {wrong}") from wrong
