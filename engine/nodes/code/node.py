"""The node type `code`: runs the author's Python in a sandbox process with time and memory limits.

Values enter the sandbox only as data: a template never becomes part of the source.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from engine.nodes.code.errors import SandboxLimits
from engine.nodes.code.limitations import limitations
from engine.nodes.code.sandbox import run_code
from engine.nodes.code.source import check_arguments, process_of
from engine.sdk.node import ConfigWarning, NodeConfig, NodeContext, NodeType, Output
from engine.types import JSON

MAX_CODE = 256 * 1024
"""Characters of the source."""
DEFAULT_MEMORY_MB = 128
"""Memory limit in MiB if the process sets none."""

DEFAULT_MAX_TIMEOUT_S = 300.0
"""Seconds that code may take on a host that does not set its own maximum."""


def _check_source(code: str) -> str:
    process_of(code)
    return code


class CodeConfig(NodeConfig):
    """The config of a `code` node."""

    language: Literal["python"] = Field("python", title="Language", description="Only Python.", examples=["python"])
    code: Annotated[str, AfterValidator(_check_source)] = Field(
        min_length=1,
        max_length=MAX_CODE,
        title="Code",
        description="Python that defines `process(…)`. Its result is the output of the node; printed lines go to the log.",
        examples=["def process(value):\n    return {'double': value * 2}"],
        json_schema_extra={"format": "code"},
    )
    input_mapping: dict[str, JSON] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("input_mapping", "inputMapping"),
        title="Inputs",
        description="The arguments of `process` by name: any JSON, with templates.",
        examples=[{"value": "{{ input.value }}"}],
        json_schema_extra={"format": "template"},
    )
    timeout_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        validation_alias=AliasChoices("timeoutS", "timeout_s"),
        title="Time limit (s)",
        description="Seconds that the code may take, at most the limit of the host. The wait for a free sandbox does not "
        "count.",
        examples=[10],
    )
    memory_mb: int | None = Field(
        None,
        ge=1,
        le=65536,
        validation_alias=AliasChoices("memoryMB", "memory_mb"),
        title="Memory limit (MiB)",
        description="Memory that the code may use, at most the limit of the worker.",
        examples=[64],
    )

    @model_validator(mode="after")
    def _check_mapping(self) -> Self:
        process = process_of(self.code)
        if process is not None and not process.decorator_list:
            check_arguments(process, self.input_mapping.keys())
        return self


class CodeNode(NodeType[CodeConfig]):
    """Calls `process` in a sandbox process."""

    name: ClassVar[str] = "code"
    title: ClassVar[str] = "Code"
    description: ClassVar[str] = "Runs Python in a sandbox: no network, no files, limits on time and memory."
    category: ClassVar[str] = "data"
    icon: ClassVar[str] = "code"
    Config: ClassVar[type[NodeConfig]] = CodeConfig
    output_schema: ClassVar[dict[str, Any]] = {"description": "What `process` returns."}
    example: ClassVar[dict[str, Any]] = {
        "language": "python",
        "code": "def process(value):\n    return {'double': value * 2}",
        "input_mapping": {"value": "{{ input.value }}"},
    }

    def __init__(self, max_timeout_s: float = DEFAULT_MAX_TIMEOUT_S) -> None:
        """`max_timeout_s` is the time limit of this host, which no `timeoutS` exceeds."""
        self._max_timeout_s = max_timeout_s

    def warnings_of(self, config: CodeConfig) -> list[ConfigWarning]:
        found = limitations(config.code)
        if config.timeout_s > self._max_timeout_s:
            message = (
                f"the code is stopped after {self._max_timeout_s:g} s, the maximum of this host: "
                f"`timeoutS` is {config.timeout_s:g}"
            )
            found.append(ConfigWarning(("timeoutS",), message))
        return found

    async def execute(self, config: CodeConfig, ctx: NodeContext) -> Output:
        arguments = ctx.render(config.input_mapping)
        ctx.note_input(arguments)
        allowed_mb = int(ctx.resources.get("sandbox_memory_mb", DEFAULT_MEMORY_MB))
        memory_mb = min(config.memory_mb or allowed_mb, allowed_mb)
        timeout_s = min(config.timeout_s, self._max_timeout_s)
        limits = SandboxLimits(timeout_s, memory_mb, is_of_host=timeout_s < config.timeout_s)
        return Output(await run_code(config.code, arguments, limits, ctx))
