"""Queries that read no database: the catalogs, and looking at a spec or an expression."""

import strawberry

from engine.chat_models.base import ModelInfo
from engine.validation.validator import Report
from engine.workflow_templates import loader as gallery
from resolvers import catalog
from resolvers.workflows import specs
from schema.catalog import Model, NodeType, Template, Tool, TriggerKind
from schema.info import Info
from schema.scalars import JSON
from schema.spec import ExpressionResult, SpecReport


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
    def templates(info: Info) -> list[gallery.Template]:
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
    def validate_spec(info: Info, spec: JSON, project_id: strawberry.ID | None = None) -> Report:
        return specs.report(info.context, spec)

    @strawberry.field(
        graphql_type=ExpressionResult, description="Evaluates a template or expression against sample data."
    )
    @staticmethod
    async def evaluate_expression(expression: str, context: JSON) -> specs.ExpressionResult:
        return await specs.evaluate_expression(expression, context)
