"""Names of models and tools in a spec that this host's catalogs do not have. Warnings: another host, or tomorrow, may have them.

Looks at what is known here and now; connects to nobody.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from engine.errors import NodeFailure
from engine.problems import FieldProblem, join_path
from engine.sdk.annotations import NODE, SPEC, AnnotatedValue, annotated_values
from engine.sdk.node_types import NodeTypes
from engine.spec.model import Spec
from engine.spec.template_fields import schema_of
from engine.states import Severity
from engine.types import JSON

MODEL, TOOL = "model-name", "tool-name"
"""What the JSON Schemas of configs call them: `format`."""
MAX_TOLD = 100


class Catalog(Protocol):
    def missing(self, name: str) -> NodeFailure | None:
        """What a node that names it would fail with, where that is certain without asking anybody."""
        ...


def unknown_names(spec: Spec, types: NodeTypes, catalogs: Mapping[str, Catalog]) -> list[FieldProblem]:
    """`catalogs` by format. Of a spec that could be read as a whole."""
    return list(islice(_unknown(spec, types, catalogs), MAX_TOLD))


def _unknown(spec: Spec, types: NodeTypes, catalogs: Mapping[str, Catalog]) -> Iterator[FieldProblem]:
    for index, node in enumerate(spec.nodes):
        for path, name, catalog in _names(node.type, node.config, f"nodes[{index}].config", types, catalogs):
            if (failure := catalog.missing(name)) is not None:
                yield FieldProblem(path, failure.code, failure.message, Severity.WARNING, node.id)


def _names(
    kind: JSON, config: JSON, path: str, types: NodeTypes, catalogs: Mapping[str, Catalog]
) -> Iterator[tuple[str, str, Catalog]]:
    if not isinstance(kind, str) or kind not in types:
        return
    schema = schema_of(types[kind].Config)
    for place in annotated_values(schema, config, path, schema.get("$defs", {})):
        catalog = catalogs.get(place.format)
        if catalog is not None and isinstance(place.value, str):
            yield place.path, place.value, catalog
        for node, at in _inner(place):
            yield from _names(node.get("type"), node.get("config"), join_path(at, "config"), types, catalogs)


def _inner(place: AnnotatedValue) -> Iterator[tuple[dict[str, JSON], str]]:
    """The nodes inside of a `map`, with where they are."""
    nodes: list[tuple[JSON, str]] = []
    if place.format == NODE:
        nodes = [(place.value, place.path)]
    elif (
        place.format == SPEC and isinstance(place.value, dict) and isinstance(listed := place.value.get("nodes"), list)
    ):
        nodes = [(node, join_path(place.path, "nodes", index)) for index, node in enumerate(listed)]
    for node, at in nodes:
        if isinstance(node, dict):
            yield node, at
