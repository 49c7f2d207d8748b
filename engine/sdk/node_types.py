"""The mapping from names to node types. engine/nodes/registry.py fills it at start."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from engine.sdk.node import NodeType


class NodeTypes(Mapping[str, NodeType[Any]]):
    """An immutable mapping of node types by name.

    `broken` maps the name of an entry point to the reason why its package could not be loaded.
    """

    def __init__(self, types: Iterable[NodeType[Any]], broken: Mapping[str, str] | None = None) -> None:
        self._types = {kind.name: kind for kind in types}
        self.broken = dict(broken or {})

    def __getitem__(self, name: str) -> NodeType[Any]:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)
