"""Loads the built-in node types and those of packages (entry point `treadle.nodes`).

A package that cannot be loaded does not affect the others: it is left out and listed in `broken`.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engine.errors import NotStorable
from engine.nodes.ai.agent import AgentNode
from engine.nodes.ai.llm import LlmNode
from engine.nodes.code.node import DEFAULT_MAX_TIMEOUT_S, CodeNode
from engine.nodes.conditional import ConditionalNode
from engine.nodes.delay import DelayNode
from engine.nodes.end import EndNode
from engine.nodes.fail import FailNode
from engine.nodes.http.node import HttpNode
from engine.nodes.human import HumanNode
from engine.nodes.map.node import MapNode
from engine.nodes.start import StartNode
from engine.nodes.subworkflow import SubworkflowNode
from engine.nodes.switch import SwitchNode
from engine.nodes.tool import ToolNode
from engine.nodes.transform import TransformNode
from engine.nodes.wait_event import WaitEventNode
from engine.sdk.node import NodeConfig, NodeType
from engine.sdk.node_types import NodeTypes
from engine.sdk.plugins import load_error
from engine.values.storable import check_storable

GROUP = "treadle.nodes"
BUILT_IN: tuple[type[NodeType[Any]], ...] = (
    StartNode,
    EndNode,
    FailNode,
    TransformNode,
    ConditionalNode,
    SwitchNode,
    CodeNode,
    DelayNode,
    HumanNode,
    WaitEventNode,
    HttpNode,
    LlmNode,
    ToolNode,
    AgentNode,
    SubworkflowNode,
    MapNode,
)


def load_node_types(max_code_s: float = DEFAULT_MAX_TIMEOUT_S) -> NodeTypes:
    """Load every node type.

    A package cannot replace a built-in type, nor one of an earlier package.

    Args:
        max_code_s: The maximum of `timeoutS` of code nodes on this host, in seconds.
    """
    types: dict[str, NodeType[Any]] = {kind.name: kind() for kind in BUILT_IN}
    types[CodeNode.name] = CodeNode(max_code_s)
    broken: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        try:
            kind = _load(entry)
            if kind.name in types:
                raise ValueError(f"there is a node type {kind.name!r} already")
            types[kind.name] = kind
        except (Exception, SystemExit) as fault:  # third-party code may raise anything
            broken[entry.name] = load_error(entry, fault)
    return NodeTypes(types.values(), broken)


def _load(entry: EntryPoint) -> NodeType[Any]:
    """Load and check the node type of an entry point: a class or an instance.

    May raise anything.
    """
    loaded = entry.load()
    kind = loaded() if isinstance(loaded, type) else loaded
    if not isinstance(kind, NodeType):
        raise TypeError("is no NodeType")
    for name in ("name", "title", "description", "Config"):
        if not hasattr(kind, name):
            raise TypeError(f"has no `{name}`")
    if not issubclass(kind.Config, NodeConfig):
        raise TypeError("its Config is no NodeConfig")
    _check_catalog_entry(kind)
    return kind


def _check_catalog_entry(kind: NodeType[Any]) -> None:
    """Check that the catalog can list the type as JSON: one bad entry would break the whole list.

    Raises:
        TypeError: An attribute has the wrong type.
    """
    texts = (kind.name, kind.title, kind.description, kind.category, kind.icon)
    if not all(isinstance(text, str) for text in (*texts, *kind.ports, *kind.port_paths())):
        raise TypeError("its name, title, description, category, icon and ports must be strings")
    values = {"Config": kind.Config.model_json_schema(), "output_schema": kind.output_schema, "example": kind.example}
    for name, value in values.items():
        try:
            check_storable(value)
        except NotStorable as error:
            raise TypeError(f"its {name} is no JSON: {error}") from error
