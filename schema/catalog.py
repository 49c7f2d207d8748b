"""Catalogs and checks of specs as clients see them."""

from typing import Annotated, Any

import strawberry

from engine.chat_models.base import ModelInfo
from engine.validation.validator import ValidationReport
from engine.workflow_templates.loader import WorkflowTemplate
from resolvers import catalog
from resolvers.workflows import specs
from schema.info import Info
from schema.scalars import JSON
from schema.spec import SAMPLE_CONTEXT, ExpressionResultType, KindArgument, SpecReport


@strawberry.type(description="A named port of a node type, by which edges leave its nodes.")
class NodePort:
    name: str = strawberry.field(description="The `port` of an edge, and the id of a handle in React Flow.")
    title: str = strawberry.field(description="For people.")
    is_default: bool = strawberry.field(
        description="Whether a node leaves by it if nothing else decides, such as `false` of a conditional."
    )
    is_error: bool = strawberry.field(description="Whether it is taken only on a failure, with `onError: branch`.")


@strawberry.type(description="A path in the config of a node that adds ports.")
class NodePortPath:
    path: str = strawberry.field(
        description="Such as `default`, or `cases[*].port` for the `port` of each item of `cases`."
    )
    is_default: bool = strawberry.field(description="Whether a node leaves by this port if nothing else decides.")


@strawberry.type(name="NodeType")
class NodeTypeInfo:
    name: str
    title: str
    description: str
    category: str
    icon: str
    config_schema: JSON = strawberry.field(description="JSON Schema of `config`, to build a form from.")
    output_schema: JSON
    ports: list[str] = strawberry.field(
        description="Ports that edges may leave by: `true`, `false`, the name of a case, `error`."
    )
    ports_from: str | None = strawberry.field(
        description="The first path in `config` that adds ports: `cases[*].port`. `portPaths` has all."
    )
    named_ports: list[NodePort] = strawberry.field(
        description="The ports that every node of this type has, `error` last."
    )
    port_paths: list[NodePortPath] = strawberry.field(
        description="Every path in `config` that adds ports. Their values are names of ports; an absent or null one adds "
        "none."
    )
    example: JSON
    deprecated: str | None
    problem: str | None = strawberry.field(
        description="Why the node type of a package could not be loaded. Such a type cannot be used."
    )


@strawberry.type(name="Tool")
class ToolType:
    name: str
    description: str
    parameters: JSON = strawberry.field(description="JSON Schema of the arguments.")
    required_scopes: list[str] = strawberry.field(description="Scopes that the user who starts the run must have.")
    origin: str = strawberry.field(description="`builtin`, `python` or `mcp:<server>`.")
    problem: str | None = strawberry.field(
        description="Why it cannot be used now: its package does not load, or its server is down."
    )


@strawberry.type
class Model:
    name: str = strawberry.field(description="The name that nodes use.")
    provider: str
    description: str
    context_window: int | None = strawberry.field(description="Tokens; null if unknown.")
    capabilities: list[str] = strawberry.field(description="`text`, `structured_output`, `tools`, `vision`.")
    available: bool = strawberry.field(
        description="Whether it can be used now: its key is set and its endpoint responds. Checked every 15 seconds."
    )
    problem: str | None = strawberry.field(description="Why it is not available.")


@strawberry.type
class Template:
    name: str
    title: str
    description: str
    spec: JSON
    example_inputs: JSON
    needs: list[str] = strawberry.field(
        description="What it needs in addition to a running Treadle, such as a service at an address of its inputs."
    )


@strawberry.type(name="TriggerKind")
class TriggerKindType:
    name: str = strawberry.field(description="The `kind` of `createTrigger`.")
    title: str
    description: str
    config_schema: JSON = strawberry.field(description="JSON Schema of `config`, to build a form from.")
    event_schema: JSON = strawberry.field(description="JSON Schema of `event`, which the templates of `inputs` see.")
    example: JSON = strawberry.field(description="A valid `config`.")


@strawberry.type
class CatalogQueries:
    @strawberry.field(graphql_type=list[NodeTypeInfo])
    @staticmethod
    def node_types(info: Info) -> list[catalog.NodeTypeView]:
        return catalog.node_types(info.context)

    @strawberry.field(graphql_type=NodeTypeInfo | None)
    @staticmethod
    def node_type(info: Info, name: str) -> catalog.NodeTypeView | None:
        return catalog.node_type(info.context, name)

    @strawberry.field(
        graphql_type=JSON,
        description="The JSON Schema (draft 2020-12) of a whole spec with the node types of this host, for editors and "
        "for types of programs. Each definition `…Node` has its `type`, config and policies, and `…Port` its ports.",
    )
    @staticmethod
    async def spec_schema(info: Info) -> dict[str, Any]:
        return await catalog.spec_schema(info.context)

    @strawberry.field(
        graphql_type=list[ToolType], description="Tools that are built in, and tools of packages and of MCP servers."
    )
    @staticmethod
    async def tools(info: Info) -> list[catalog.ToolView]:
        return await catalog.tools(info.context)

    @strawberry.field(
        graphql_type=list[Model],
        description="Models of the catalog. API keys stored as secrets are read from "
        "this project, else from the caller's default project.",
    )
    @staticmethod
    async def models(info: Info, project_id: strawberry.ID | None = None) -> list[ModelInfo]:
        return await catalog.models(info.context, project_id)

    @strawberry.field(
        graphql_type=list[Template], description="Workflows to start from, for `createWorkflow(template:)`."
    )
    @staticmethod
    def templates(info: Info) -> list[WorkflowTemplate]:
        return catalog.templates(info.context)

    @strawberry.field(graphql_type=list[TriggerKindType], description="The kinds of triggers, by name.")
    @staticmethod
    def trigger_kinds() -> list[catalog.TriggerKindView]:
        return catalog.trigger_kinds()

    @strawberry.field(
        graphql_type=SpecReport,
        description="All problems of a spec. Neither saves nor executes anything.",
    )
    @staticmethod
    async def validate_spec(info: Info, spec: JSON, project_id: strawberry.ID | None = None) -> ValidationReport:
        return await specs.report(info.context, spec)

    @strawberry.field(
        graphql_type=ExpressionResultType,
        description="Evaluates a template, an expression or a condition with sample data.",
    )
    @staticmethod
    async def evaluate_expression(
        info: Info,
        expression: str,
        context: Annotated[JSON, strawberry.argument(description=SAMPLE_CONTEXT)],
        kind: KindArgument = None,
    ) -> specs.ExpressionResult:
        return await specs.evaluate_with_sample(expression, context, kind, subject=info.context.caller.subject)
