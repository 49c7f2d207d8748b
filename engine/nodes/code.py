"""`code`: the author's Python, run in a sandbox process with limits on time and memory. Values go in as data alone."""

import ast
import warnings
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, model_validator
from pydantic_core import PydanticCustomError

from engine.events import JSON
from engine.nodes.base import NodeConfig, NodeContext, NodeType, Output
from engine.nodes.sandbox import Limits, run_code

PROCESS = "process"
MAX_CODE = 256 * 1024
DEFAULT_MEMORY_MB = 128


def _wrong(message: str, line: int | None = None, column: int | None = None) -> PydanticCustomError:
    return PydanticCustomError("code", "{message}", {"message": message, "line": line, "column": column})


@lru_cache(maxsize=1024)
def _process_of(code: str) -> ast.FunctionDef | None:
    """The top-level `def process`; None if it comes into being in another way. Raises PydanticCustomError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(code)
    except SyntaxError as wrong:
        raise _wrong(wrong.msg, wrong.lineno, wrong.offset) from wrong
    except (RecursionError, MemoryError) as wrong:
        raise _wrong("the code is nested too deeply") from wrong
    for statement in reversed(module.body):
        if isinstance(statement, ast.AsyncFunctionDef) and statement.name == PROCESS:
            raise _wrong("`process` must be a plain function, not an async one", statement.lineno, 1)
        if isinstance(statement, ast.FunctionDef) and statement.name == PROCESS:
            return statement
    if not any(getattr(node, "id", getattr(node, "name", None)) == PROCESS for node in ast.walk(module)):
        raise _wrong("the code must define a function `process`")
    return None


def _is_python(code: str) -> str:
    _process_of(code)
    return code


class CodeConfig(NodeConfig):
    language: Literal["python"] = Field("python", title="Language", description="Python alone.", examples=["python"])
    code: Annotated[str, AfterValidator(_is_python)] = Field(
        min_length=1,
        max_length=MAX_CODE,
        title="Code",
        description="Python that defines `process(…)`; its result is the node's output, what it prints goes to the log.",
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
        description="Seconds the code may take; waiting for a free sandbox does not count.",
        examples=[10],
    )
    memory_mb: int | None = Field(
        None,
        ge=1,
        le=65536,
        validation_alias=AliasChoices("memoryMB", "memory_mb"),
        title="Memory limit (MB)",
        description="Memory the code may use, up to the limit that the worker sets.",
        examples=[64],
    )

    @model_validator(mode="after")
    def _mapping_fits(self) -> Self:
        process = _process_of(self.code)
        if process is None or process.decorator_list:
            return self
        arguments = process.args
        named = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
        given = self.input_mapping.keys()
        if arguments.posonlyargs:
            raise _wrong("`process` is called with named arguments; take away the `/`", process.lineno, 1)
        if arguments.kwarg is None and (unknown := sorted(given - set(named))):
            raise _wrong(f"`process` has no parameter `{unknown[0]}`, which input_mapping gives", process.lineno, 1)
        positional = [None] * (len(arguments.args) - len(arguments.defaults))
        defaults = [*positional, *arguments.defaults, *arguments.kw_defaults]
        needed = [name for name, default in zip(named, defaults, strict=True) if default is None]
        if missing := [name for name in needed if name not in given]:
            raise _wrong(f"`process` needs `{missing[0]}`, which input_mapping does not give", process.lineno, 1)
        return self


class Code(NodeType[CodeConfig]):
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

    async def execute(self, config: CodeConfig, ctx: NodeContext) -> Output:
        arguments = ctx.render(config.input_mapping)
        ctx.note_input(arguments)
        allowed_mb = int(ctx.resources.get("sandbox_memory_mb", DEFAULT_MEMORY_MB))
        memory_mb = min(config.memory_mb or allowed_mb, allowed_mb)
        return Output(await run_code(config.code, arguments, Limits(config.timeout_s, memory_mb), ctx))
