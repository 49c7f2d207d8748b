"""`Expose`: how other systems and agents run a workflow, as clients see and set it."""

import strawberry

from resolvers.workflows.exposures import ExposureArguments


@strawberry.type(
    description="How other systems run a workflow: by `POST /run/<name>`. They run the published version, with the role "
    "RUNNER of their sign-in.",
)
class Expose:
    name: str
    description: str = strawberry.field(description="What it does, for callers and models; may be empty.")
    mcp: bool
    http: bool


@strawberry.input
class ExposeInput:
    name: str = strawberry.field(
        description="Begins with a letter and has 1 to 48 characters: a to z, 0 to 9, `-` and `_`. Unique in the project. "
        "Not `runs`, and not with `treadle_` at its beginning."
    )
    description: str | None = strawberry.field(
        default="", description="What it does, for callers and models; at most 2,000 characters."
    )
    mcp: bool | None = strawberry.field(
        default=False, description="Whether agents may have it as a tool. Only stored: this release has no MCP server."
    )
    http: bool | None = strawberry.field(default=False, description="Run it by `POST /run/<name>`.")

    @property
    def arguments(self) -> ExposureArguments:
        return ExposureArguments(self.name, self.description or "", bool(self.mcp), bool(self.http))
