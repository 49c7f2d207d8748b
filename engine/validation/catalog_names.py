"""Warnings about models and tools that a spec names and this host's catalogs do not have.

They are warnings, since another host, or this one tomorrow, may have them. The check uses only
what the process knows already: it opens no connection.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from engine.errors import NodeFailure
from engine.problems import FieldProblem, join_path
from engine.sdk.annotations import annotated_values
from engine.sdk.node_types import NodeTypes
from engine.spec.model import Spec
from engine.spec.template_fields import nested_nodes, schema_of
from engine.states import Severity
from engine.types import JSON

MODEL, TOOL = "model-name", "tool-name"
"""The `format` of such a name in the JSON Schema of a config."""
MAX_WARNINGS = 100


class Catalog(Protocol):
    """A catalog of models or tools."""

    def missing(self, name: str) -> NodeFailure | None:
        """Return the failure of a node that uses this name, or None unless it is certain."""
        ...


def unknown_names(spec: Spec, types: NodeTypes, catalogs: Mapping[str, Catalog]) -> list[FieldProblem]:
    """Return a warning for each name that its catalog does not have, at most MAX_WARNINGS.

    Args:
        spec: A spec without errors of its shape.
        types: The node types of this host.
        catalogs: The catalogs by `format`: MODEL, TOOL.
    """
    return list(islice(_unknown(spec, types, catalogs), MAX_WARNINGS))


def _unknown(spec: Spec, types: NodeTypes, catalogs: Mapping[str, Catalog]) -> Iterator[FieldProblem]:
    for index, node in enumerate(spec.nodes):
        for path, name, catalog in _names(node.type, node.config, f"nodes[{index}].config", types, catalogs):
            if (failure := catalog.missing(name)) is not None:
                yield FieldProblem(path, failure.code, failure.message, Severity.WARNING, node.id)


def _names(
    type_name: str, config: JSON, path: str, types: NodeTypes, catalogs: Mapping[str, Catalog]
) -> Iterator[tuple[str, str, Catalog]]:
    """Find the names in a node's config and in the nodes nested in it: (path, name, catalog)."""
    if type_name not in types:
        return
    model = types[type_name].Config
    schema = schema_of(model)
    for place in annotated_values(schema, config, path, schema.get("$defs", {})):
        catalog = catalogs.get(place.format)
        if catalog is not None and isinstance(place.value, str):
            yield place.path, place.value, catalog
    for node in nested_nodes(model, config, path):
        yield from _names(node.type, node.config, join_path(node.path, "config"), types, catalogs)
