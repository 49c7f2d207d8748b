"""The node types there are: the built-in ones, and those of installed packages by the entry point `treadle.nodes`.

A package that cannot be loaded takes nobody along: it is left out and named in `broken`.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engine.errors import NotStorable
from engine.nodes.ai.agent import Agent
from engine.nodes.ai.llm import Llm
from engine.nodes.code.node import Code
from engine.nodes.conditional import Conditional
from engine.nodes.delay import Delay
from engine.nodes.end import End
from engine.nodes.http.node import Http
from engine.nodes.human import Human
from engine.nodes.map.node import Map
from engine.nodes.start import Start
from engine.nodes.subworkflow import Subworkflow
from engine.nodes.switch import Switch
from engine.nodes.tool import Tool
from engine.nodes.transform import Transform
from engine.sdk.node import NodeConfig, NodeType
from engine.sdk.node_types import NodeTypes
from engine.values.storable import check_storable

GROUP = "treadle.nodes"
BUILT_IN: tuple[type[NodeType[Any]], ...] = (
    Start,
    End,
    Transform,
    Conditional,
    Switch,
    Code,
    Delay,
    Human,
    Http,
    Llm,
    Tool,
    Agent,
    Subworkflow,
    Map,
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
            broken[entry.name] = f"{entry.value}: {type(fault).__name__}: {fault}"
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
