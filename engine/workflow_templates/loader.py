"""The gallery: workflows to start from, each a JSON file beside this one. Read once, and only offered where they can run.

All of them use the model `treadle/echo`, which needs no key: whoever starts from one tries it first, and then names a model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from engine.sdk.node_types import NodeTypes

ROOM = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class WorkflowTemplate:
    """A workflow to start from. `name` is that of its file."""

    name: str
    title: str
    description: str
    spec: dict[str, Any]
    example_inputs: dict[str, Any]

    @property
    def types(self) -> frozenset[str]:
        """The node types that it takes."""
        return frozenset(node["type"] for node in self.spec["nodes"])


@cache
def workflow_templates() -> tuple[WorkflowTemplate, ...]:
    """All there are, by title."""
    return tuple(sorted(_read(), key=lambda template: template.title))


def available_templates(types: NodeTypes) -> list[WorkflowTemplate]:
    """Those whose node types are all there."""
    return [template for template in workflow_templates() if template.types <= types.keys()]


def _read() -> Iterator[WorkflowTemplate]:
    for path in ROOM.glob("*.json"):
        content = orjson.loads(path.read_bytes())
        yield WorkflowTemplate(
            path.stem, content["title"], content["description"], content["spec"], content["exampleInputs"]
        )
