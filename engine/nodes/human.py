"""The node type `human`: asks a person and waits for the answer.

The wait is a row in the database, so it survives crashes and occupies no worker.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from engine.errors import NodeFailure
from engine.sdk.annotations import STORED_TEMPLATE
from engine.sdk.node import ANSWERED, EXPIRED, Answerers, NodeConfig, NodeContext, NodeType, WaitForAnswer
from engine.types import JSON
from engine.values.json_schema import checked_schema

MAX_SUBJECTS = 100
MAX_EXPIRY_S = 3650 * 86_400
"""Ten years, in seconds."""


class AnswerersConfig(NodeConfig):
    """Who may answer: callers to whom all of it applies."""

    role: Literal["runner", "editor", "admin"] | None = Field(
        None, title="Role", description="The least role in the project. Without it, `runner`, as for all answers."
    )
    subjects: list[str] = Field(
        [],
        max_length=MAX_SUBJECTS,
        title="Subjects",
        description="The `sub` of tokens, or ids of API keys; templates give them too. Without it, any.",
        examples=[["ada", "{{ input.manager }}"]],
        json_schema_extra={"items": {"type": "string", **STORED_TEMPLATE}},
    )
    except_starter: bool = Field(
        False,
        alias="exceptStarter",
        title="Not the starter",
        description="The one who created or executed the run may not answer, also by an API key.",
    )


class HumanConfig(NodeConfig):
    """The config of a `human`."""

    prompt: JSON = Field(
        title="Prompt",
        description="The question: text, or any JSON that your page can display.",
        examples=["Approve {{ input.amount }} for {{ input.who }}?"],
        json_schema_extra=STORED_TEMPLATE,
    )
    schema_: Annotated[dict[str, Any] | None, AfterValidator(checked_schema)] = Field(
        None,
        alias="schema",
        title="Answer",
        description="JSON Schema of the answer, for the form and the check. Without one, any JSON is accepted.",
        examples=[{"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}],
        json_schema_extra={"format": "json-schema"},
    )
    answerers: AnswerersConfig | None = Field(
        None,
        title="Who may answer",
        description="Limits who may answer. Without it, every caller who may control the run.",
        examples=[{"role": "editor", "exceptStarter": True}],
    )
    expires_s: float | None = Field(
        None,
        alias="expiresS",
        gt=0,
        le=MAX_EXPIRY_S,
        title="Expires after",
        description="Seconds after which the node leaves by the port `expired`, with the output null.",
        examples=[86_400],
    )


class HumanNode(NodeType[HumanConfig]):
    """Returns a wait for an answer, which becomes the output."""

    name: ClassVar[str] = "human"
    title: ClassVar[str] = "Human"
    description: ClassVar[str] = (
        "Asks a person for an approval or for data, and waits for the answer, which is its output."
    )
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "user"
    Config: ClassVar[type[NodeConfig]] = HumanConfig
    ports: ClassVar[tuple[str, ...]] = (ANSWERED, EXPIRED)
    default_port: ClassVar[str | None] = ANSWERED
    example: ClassVar[dict[str, Any]] = {
        "prompt": "Approve {{ input.amount }}?",
        "schema": {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]},
        "expiresS": 86_400,
    }

    waits: ClassVar[bool] = True

    def port_of(self, config: HumanConfig, output: JSON) -> str:
        """Return `answered`: an output that a user enters is an answer."""
        return ANSWERED

    async def execute(self, config: HumanConfig, ctx: NodeContext) -> WaitForAnswer:
        prompt = ctx.render(config.prompt)
        ctx.note_input(prompt)
        expires_at = None if config.expires_s is None else datetime.now(UTC) + timedelta(seconds=config.expires_s)
        return WaitForAnswer(prompt, config.schema_, expires_at, _answerers(config.answerers, ctx))


def _answerers(config: AnswerersConfig | None, ctx: NodeContext) -> Answerers | None:
    """Return who may answer, with rendered subjects. Raises NodeFailure(CONFIG)."""
    if config is None:
        return None
    subjects = [ctx.render(subject) for subject in config.subjects]
    for subject in subjects:
        if not isinstance(subject, str) or not subject.strip():
            raise NodeFailure("CONFIG", "`answerers.subjects` must give texts that are not empty")
    return Answerers(config.role, tuple(subjects), config.except_starter)
