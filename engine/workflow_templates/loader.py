"""Read the workflow templates, one JSON file each, once per process.

All of them use the model `treadle/echo`, which needs no key, so that a user can try a template
before choosing a model. A template is offered only if all of its node types exist.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from engine.sdk.node_types import NodeTypes

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class WorkflowTemplate:
    """A workflow template.

    `name` is the name of its file without `.json`. `needs` says what it needs in addition to a
    running Treadle, one sentence each.
    """

    name: str
    title: str
    description: str
    spec: dict[str, Any]
    example_inputs: dict[str, Any]
    needs: tuple[str, ...] = ()

    @property
    def types(self) -> frozenset[str]:
        """The names of the node types that it uses."""
        return frozenset(node["type"] for node in self.spec["nodes"])


@cache
def workflow_templates() -> tuple[WorkflowTemplate, ...]:
    """Return all workflow templates, sorted by title."""
    return tuple(sorted(_read(), key=lambda template: template.title))


def available_templates(types: NodeTypes) -> list[WorkflowTemplate]:
    """Return the workflow templates whose node types all exist."""
    return [template for template in workflow_templates() if template.types <= types.keys()]


def _read() -> Iterator[WorkflowTemplate]:
    for path in FOLDER.glob("*.json"):
        content = orjson.loads(path.read_bytes())
        yield WorkflowTemplate(
            path.stem,
            content["title"],
            content["description"],
            content["spec"],
            content["exampleInputs"],
            tuple(content.get("needs", ())),
        )
