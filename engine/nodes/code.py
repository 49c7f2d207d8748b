"""`code`: the author's Python, in a Monty sandbox with limits on time and memory.

The sandbox is a process of its own: code that loops or allocates without end costs that process, and nobody else's turn.
"""

from typing import Any, Literal

from pydantic import Field
from pydantic_monty import (
    AsyncMonty,
    MontyConversionError,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from engine.events import JSON
from engine.nodes.base import NodeConfig, NodeContext, NodeFailure, NodeType, Output
from engine.states import LogLevel

DEFAULT_TIMEOUT_S = 10.0
MB = 1024 * 1024
_CALL = "process(**__treadle_arguments__)"


class CodeConfig(NodeConfig):
    language: Literal["python"] = Field("python", title="Language")
    code: str = Field(
        title="Code",
        description="Defines `process(...)`; what it returns is the node's output.",
        json_schema_extra={"format": "code"},
        min_length=1,
        max_length=200_000,
    )
    input_mapping: dict[str, Any] = Field(
        default_factory=dict,
        title="Arguments",
        description="What `process` is called with, by name; any JSON with templates.",
        json_schema_extra={"format": "template"},
        examples=[{"input_data": "{{ input.value }}"}],
    )
    timeout_s: float = Field(DEFAULT_TIMEOUT_S, alias="timeoutS", title="Seconds it may run", gt=0, le=600)
    memory_mb: int | None = Field(None, alias="memoryMB", title="Memory in MiB", ge=1, le=4096)


class Code(NodeType[CodeConfig]):
    name = "code"
    title = "Code"
    description = "Runs Python in a sandbox: no files, no network, limited time and memory."
    category = "data"
    icon = "code"
    Config = CodeConfig
    example = {
        "id": "double",
        "type": "code",
        "config": {
            "language": "python",
            "code": "def process(input_data):\n    return input_data * 2\n",
            "input_mapping": {"input_data": "{{ input.value }}"},
        },
    }

    async def execute(self, config: CodeConfig, ctx: NodeContext) -> Output:
        arguments = ctx.render(config.input_mapping)
        ctx.note_input(arguments)
        pool: AsyncMonty = ctx.resources["sandbox"]
        memory = (config.memory_mb or ctx.resources["sandbox_memory_mb"]) * MB
        limits: Any = {"max_feed_duration_secs": config.timeout_s, "max_memory": memory}
        try:
            # Waiting for a sandbox does not use up the code's time: its clock runs in the sandbox alone.
            async with pool.checkout(script_name="process.py", limits=limits) as session:
                return Output(await _process(session, config.code, arguments, _Lines(ctx)))
        except MontyError as error:
            raise _failure(error, config) from error


async def _process(session: Any, code: str, arguments: JSON, lines: "_Lines") -> JSON:
    await session.feed_run(code, print_callback=lines)
    result = await session.feed_run(_CALL, inputs={"__treadle_arguments__": arguments}, print_callback=lines)
    lines.end()
    return result


class _Lines:
    """Turns what the code prints into log lines."""

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx, self._rest = ctx, ""

    def __call__(self, stream: str, text: str) -> None:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._ctx.log(LogLevel.INFO, line[:10_000], stream=stream)

    def end(self) -> None:
        if self._rest:
            self("stdout", "\n")


def _failure(error: MontyError, config: CodeConfig) -> NodeFailure:
    if isinstance(error, MontyCrashedError):
        return NodeFailure("SANDBOX", f"the sandbox ended: {error}; it may have used too much memory", retryable=True)
    if isinstance(error, MontySyntaxError):
        return NodeFailure("CODE", f"the code does not parse: {error}")
    if isinstance(error, MontyConversionError):
        return NodeFailure("OUTPUT", f"process() returned something that is no JSON: {error}")
    if isinstance(error, MontyRuntimeError):
        return _raised(error, config)
    return NodeFailure("CODE", str(error))


def _raised(error: MontyRuntimeError, config: CodeConfig) -> NodeFailure:
    cause = error.exception()
    if isinstance(cause, TimeoutError):
        return NodeFailure("TIMEOUT", f"process() did not finish within {config.timeout_s:g} s", retryable=True)
    if isinstance(cause, MemoryError):
        return NodeFailure("MEMORY", f"process() used more memory than it may: {cause}")
    frames = [frame.line for frame in error.traceback()]
    where = f" (line {frames[-1]})" if frames else ""
    return NodeFailure("CODE", f"process() raised {type(cause).__name__}: {cause}{where}", details={"lines": frames})


