"""Catalogs for a workflow builder: node types, tools, models, templates and trigger kinds."""

import asyncio
from dataclasses import dataclass
from functools import cache
from typing import Any

from engine.chat_models.base import ModelInfo
from engine.chat_models.catalog import Models
from engine.sdk.node import ERROR_PORT, NodeConfig, NodeType
from engine.sdk.tool import ToolInfo
from engine.tools.catalog import Tools
from engine.triggers.registry import installed_trigger_kinds
from engine.validation import spec_schema as schemas
from engine.workflow_templates.loader import WorkflowTemplate, available_templates
from persistence.workflows import projects
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import QUERIES


@dataclass(frozen=True, slots=True)
class NodeTypeView:
    """A node type as a form needs it; both schemas are JSON Schemas.

    `problem` says why it cannot be used.
    """

    name: str
    title: str
    description: str
    category: str
    icon: str
    config_schema: dict[str, Any]
    output_schema: dict[str, Any]
    ports: list[str]
    ports_from: str | None
    named_ports: list["PortView"]
    port_paths: list["PortPathView"]
    example: dict[str, Any]
    deprecated: str | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class PortView:
    """A named port of a node type."""

    name: str
    title: str
    is_default: bool
    is_error: bool


@dataclass(frozen=True, slots=True)
class PortPathView:
    """A path in the config of a node type that adds named ports."""

    path: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class ToolView:
    """A tool as a builder needs it; `problem` says why it cannot be used now."""

    name: str
    description: str
    parameters: dict[str, Any]
    required_scopes: list[str]
    origin: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class TriggerKindView:
    """A trigger kind as a builder needs it; the schemas are JSON Schemas."""

    name: str
    title: str
    description: str
    config_schema: dict[str, Any]
    event_schema: dict[str, Any]
    example: dict[str, Any]


@cache
def _view(kind: NodeType[Any]) -> NodeTypeView:
    config: type[NodeConfig] = kind.Config
    return NodeTypeView(
        kind.name,
        kind.title,
        kind.description,
        kind.category,
        kind.icon,
        config.model_json_schema(),
        kind.output_schema,
        [*kind.ports, ERROR_PORT],
        next(iter(kind.port_paths()), None),
        [_port(kind, port) for port in (*kind.ports, ERROR_PORT)],
        [PortPathView(path, path == kind.default_port) for path in kind.port_paths()],
        kind.example,
        kind.deprecated,
    )


def _port(kind: NodeType[Any], name: str) -> PortView:
    title = name.replace("_", " ").replace("-", " ").capitalize()
    return PortView(name, title, name == kind.default_port, name == ERROR_PORT)


def _broken(name: str, problem: str) -> NodeTypeView:
    """Return the view of a node type that could not be loaded, with the reason."""
    return NodeTypeView(name, name, "", "broken", "alert", {}, {}, [], None, [], [], {}, None, problem)


def node_types(context: Context) -> list[NodeTypeView]:
    """Return the usable node types by name, then by name those that could not be loaded."""
    types = context.node_types
    usable = [_view(types[name]) for name in sorted(types)]
    # A broken type may have the name of a usable one; the suffix keeps the names unique.
    broken = {f"{name} (package)" if name in types else name: problem for name, problem in types.broken.items()}
    return [*usable, *(_broken(name, broken[name]) for name in sorted(broken))]


def node_type(context: Context, name: str) -> NodeTypeView | None:
    return next((view for view in node_types(context) if view.name == name), None)


async def spec_schema(context: Context) -> dict[str, Any]:
    """Return the JSON Schema of a whole spec with the usable node types. It must not be changed.

    The first call of a process builds it, in a thread, which takes some tens of milliseconds.
    """
    return await asyncio.to_thread(schemas.spec_schema, context.node_types)


async def tools(context: Context) -> list[ToolView]:
    """Return the tools by name.

    Starts MCP servers that are not running, and waits a few seconds for them.
    """
    catalog: Tools | None = context.resources.get("tools")
    return [] if catalog is None else [_tool_view(info) for info in await catalog.listed()]


def _tool_view(info: ToolInfo) -> ToolView:
    return ToolView(
        info.name, info.description, dict(info.parameters), sorted(info.required_scopes), info.origin, info.problem
    )


async def models(context: Context, project_id: str | None) -> list[ModelInfo]:
    """Return the models by name, each with its availability.

    Args:
        context: The caller and the resources of this process.
        project_id: The project whose secrets may hold API keys; None for the default project of
            the caller.

    Raises:
        NotFound: The caller may not see the project.
    """
    if project_id is not None:
        require(context.caller, QUERIES["models"], project_id)
    catalog: Models | None = context.resources.get("models")
    if catalog is None:
        return []
    if project_id is None and catalog.has_secrets:
        async with context.read() as connection:
            project_id = await projects.default_id(connection, context.caller)
    return await catalog.listed(project_id)


def trigger_kinds() -> list[TriggerKindView]:
    """Return the trigger kinds of this process by name."""
    kinds = installed_trigger_kinds()
    return [
        TriggerKindView(
            kind.name,
            kind.title,
            kind.description,
            kind.Config.model_json_schema(),
            kind.event_schema,
            kind.example,
        )
        for kind in (kinds[name] for name in sorted(kinds))
    ]


def templates(context: Context) -> list[WorkflowTemplate]:
    """Return the templates by title whose node types all exist here."""
    return available_templates(context.node_types)


def template(context: Context, name: str) -> WorkflowTemplate | None:
    return next((template for template in templates(context) if template.name == name), None)
