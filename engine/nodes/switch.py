"""The node type `switch`: leaves by the port of the first case whose condition is true."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from engine.sdk.annotations import STORED_EXPRESSION
from engine.sdk.node import ERROR_PORT, NodeConfig, NodeContext, NodeType, Output, PortUndecided
from engine.types import JSON


def _refuse_error(port: str) -> str:
    if port == ERROR_PORT:
        raise ValueError("`error` is reserved for nodes that fail")
    return port


Port = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"), AfterValidator(_refuse_error)]


class SwitchCase(NodeConfig):
    """A condition and the port to leave by if it is true."""

    port: Port = Field(title="Port", description="The port to leave by.", examples=["urgent"])
    condition: str = Field(
        min_length=1,
        title="Condition",
        description="An expression.",
        examples=["classify.output.label == 'urgent'"],
        json_schema_extra=STORED_EXPRESSION,
    )


class SwitchConfig(NodeConfig):
    """The config of a `switch`."""

    cases: list[SwitchCase] = Field(
        min_length=1,
        max_length=10_000,
        title="Cases",
        description="The first case whose condition is true decides.",
        examples=[[{"port": "urgent", "condition": "input.priority > 7"}]],
    )
    default: Port | None = Field(
        None, title="Otherwise", description="The port to leave by if no condition is true.", examples=["other"]
    )


class SwitchNode(NodeType[SwitchConfig]):
    """Evaluates the cases in order until a condition is true."""

    name: ClassVar[str] = "switch"
    title: ClassVar[str] = "Switch"
    description: ClassVar[str] = "Leaves by the port of the first case whose condition is true, else by the default."
    icon: ClassVar[str] = "route"
    Config: ClassVar[type[NodeConfig]] = SwitchConfig
    inline: ClassVar[bool] = True
    ports_from: ClassVar[str | tuple[str, ...] | None] = ("cases[*].port", "default")
    default_port: ClassVar[str | None] = "default"
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"port": {"type": ["string", "null"]}},
        "required": ["port"],
    }
    example: ClassVar[dict[str, Any]] = {
        "cases": [{"port": "urgent", "condition": "input.priority > 7"}],
        "default": "normal",
    }

    def ports_of(self, config: SwitchConfig) -> tuple[str, ...]:
        ports = [case.port for case in config.cases]
        return tuple(dict.fromkeys([*ports, config.default] if config.default else ports))

    def port_of(self, config: SwitchConfig, output: JSON) -> str | None:
        ports = self.ports_of(config)
        if not isinstance(output, dict) or "port" not in output or output["port"] not in (None, *ports):
            raise PortUndecided(ports, '{"port": "…"}')
        port: str | None = output["port"]
        return port

    async def execute(self, config: SwitchConfig, ctx: NodeContext) -> Output:
        ports = (case.port for case in config.cases if ctx.evaluate(case.condition))
        # Without a match and a default, the run leaves by the edges that have no port.
        port = next(ports, config.default)
        return Output({"port": port}, port)
