"""The catalogs as clients see them."""

import strawberry

from schema.scalars import JSON


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
