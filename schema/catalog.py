"""The catalogs as clients see them."""

import strawberry

from engine.chat_models.base import ModelInfo
from engine.validation.validator import ValidationReport
from engine.workflow_templates import loader as gallery
from resolvers import catalog
from resolvers.workflows import specs
from schema.info import Info
from schema.scalars import JSON
from schema.spec import ExpressionResult, SpecReport


@strawberry.type
class NodeType:
    name: str
    title: str
    description: str
    category: str
    icon: str
    config_schema: JSON = strawberry.field(description="JSON Schema of `config`, for a form.")
    output_schema: JSON
    ports: list[str] = strawberry.field(
        description="Ports an edge may leave by: `true`, `false`, a case name, `error`."
    )
    ports_from: str | None = strawberry.field(description="Where config adds ports: `cases[*].port`.")
    example: JSON
    deprecated: str | None
    problem: str | None = strawberry.field(
        description="Why a package's node type could not be loaded. Such a one is in no palette: it cannot be used."
    )


@strawberry.type
class Tool:
    name: str
    description: str
    parameters: JSON = strawberry.field(description="JSON Schema of the arguments.")
    required_scopes: list[str] = strawberry.field(description="What whoever starts a run has to hold.")
    origin: str = strawberry.field(description="`builtin`, `python` or `mcp:<server>`.")
    problem: str | None = strawberry.field(
        description="Why it cannot be used now: a package that does not load, a server that is down."
    )


@strawberry.type
class Model:
    name: str = strawberry.field(description="What nodes call it.")
    provider: str
    description: str
    context_window: int | None = strawberry.field(description="Tokens, where it is known.")
    capabilities: list[str] = strawberry.field(description="`text`, `structured_output`, `tools`, `vision`.")
    available: bool = strawberry.field(
        description="Whether it can be used now: its key is there and its endpoint answers. Looked at every 15 seconds."
    )
    problem: str | None = strawberry.field(description="Why it is not available.")


@strawberry.type
class Template:
    name: str
    title: str
    description: str
    spec: JSON
    example_inputs: JSON


@strawberry.type
class TriggerKind:
    name: str
    title: str
    description: str
    config_schema: JSON
    event_schema: JSON


@strawberry.type
class CatalogQueries:
    @strawberry.field(graphql_type=list[NodeType])
    @staticmethod
    def node_types(info: Info) -> list[catalog.NodeTypeView]:
        return catalog.node_types(info.context)

    @strawberry.field(graphql_type=NodeType | None)
    @staticmethod
    def node_type(info: Info, name: str) -> catalog.NodeTypeView | None:
        return catalog.node_type(info.context, name)

    @strawberry.field(
        graphql_type=list[Tool], description="Built-in tools, those of packages, and those of MCP servers."
    )
    @staticmethod
    async def tools(info: Info) -> list[catalog.ToolView]:
        return await catalog.tools(info.context)

    @strawberry.field(
        graphql_type=list[Model],
        description="Those of the catalog. Keys that are secrets are looked for in this project, else in the caller's own.",
    )
    @staticmethod
    async def models(info: Info, project_id: strawberry.ID | None = None) -> list[ModelInfo]:
        return await catalog.models(info.context, project_id)

    @strawberry.field(
        graphql_type=list[Template], description="Workflows to start from, for `createWorkflow(template:)`."
    )
    @staticmethod
    def templates(info: Info) -> list[gallery.WorkflowTemplate]:
        return catalog.templates(info.context)

    @strawberry.field(graphql_type=list[TriggerKind])
    @staticmethod
    def trigger_kinds() -> list[catalog.TriggerKind]:
        return list(catalog.TRIGGER_KINDS)

    @strawberry.field(
        graphql_type=SpecReport,
        description="Everything wrong with a spec at once, without saving it. Never executes anything.",
    )
    @staticmethod
    def validate_spec(info: Info, spec: JSON, project_id: strawberry.ID | None = None) -> ValidationReport:
        return specs.report(info.context, spec)

    @strawberry.field(
        graphql_type=ExpressionResult, description="Evaluates a template or expression against sample data."
    )
    @staticmethod
    async def evaluate_expression(expression: str, context: JSON) -> specs.ExpressionResult:
        return await specs.evaluate_expression(expression, context)
