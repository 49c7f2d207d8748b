"""The node type `map`: runs a node, or a small spec, over each item of a list.

Items that are finished survive a crash, a drain and a pause (engine/nodes/map/pool.py). Their node
types come from the context, which has those that the map's own spec was compiled with.
"""

from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from engine.errors import NodeFailure
from engine.expressions.lexer import has_code
from engine.graph.bound_node import bind_nodes
from engine.graph.compiler import compile_spec
from engine.graph.plan import PlanError
from engine.nodes.map.item_runner import NodeItems, RunItem, SpecItems
from engine.nodes.map.pool import ItemPool
from engine.runtime.node_context import RunNodeContext
from engine.sdk.annotations import STORED_TEMPLATE
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.spec.model import NodeSpec, Retry, Spec, SpecError
from engine.spec.parser import parse
from engine.spec.raw import MAX_CODES
from engine.types import JSON
from engine.validation.nested import refused
from engine.values.json_schema import complete_nested_inputs
from engine.values.kinds import quoted_json

MAX_ITEMS = 100_000
MAX_MESSAGES = 3
"""Problems of the input that an error lists."""


def _check_list(value: JSON) -> JSON:
    """Accept a list, or a template, whose value is checked when it is rendered."""
    if isinstance(value, list) or (isinstance(value, str) and has_code(value)):
        return value
    raise ValueError("must be a list, or a template that gives one")


class ItemRetry(NodeConfig):
    """How the attempts at one item are repeated."""

    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        validation_alias=AliasChoices("maxAttempts", "max_attempts"),
        title="Attempts",
        description="How often an item is tried, the first time included.",
        examples=[3],
    )
    backoff_s: float = Field(
        1.0,
        ge=0,
        le=86400,
        validation_alias=AliasChoices("backoffS", "backoff_s"),
        title="Pause (s)",
        description="Seconds to wait after the first attempt.",
        examples=[1],
    )
    multiplier: float = Field(
        2.0,
        ge=1,
        le=100,
        title="Factor",
        description="How many times longer each pause is than the one before.",
        examples=[2],
    )
    max_s: float = Field(
        60.0,
        ge=0,
        le=86400,
        validation_alias=AliasChoices("maxS", "max_s"),
        title="Longest pause (s)",
        description="No pause is longer.",
        examples=[60],
    )
    on: list[str] = Field(
        default_factory=list,
        max_length=MAX_CODES,
        title="Codes",
        description="The error codes after which an item is tried again. Without codes: every retryable error.",
        examples=[["HTTP_STATUS"]],
    )


class ItemNode(NodeConfig):
    """The node that each item is executed with."""

    type: str = Field(
        min_length=1,
        max_length=200,
        title="Type",
        description="The type of the node that each item is executed with. Not `delay`, `human`, `subworkflow` or `map`.",
        examples=["llm"],
        json_schema_extra={"format": "node-type"},
    )
    config: dict[str, JSON] = Field(
        default_factory=dict,
        title="Config",
        description="The config of the node. Its templates can use `item` and `index`, and every name that this node can use.",
        examples=[{"model": "treadle/echo", "prompt": "Summarise: {{ item }}"}],
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        validation_alias=AliasChoices("timeoutS", "timeout_s"),
        title="Time limit (s)",
        description="Seconds that one attempt at an item may take.",
        examples=[60],
    )
    retry: ItemRetry | None = Field(
        None, title="Retry", description="How often a failed item is tried again.", examples=[{"maxAttempts": 3}]
    )


class MapConfig(NodeConfig):
    """The config of a `map`. Exactly one of `node` and `spec` is set."""

    items: Annotated[JSON, AfterValidator(_check_list)] = Field(
        title="Items",
        description=f"A template that gives the list, or a list with templates; up to {MAX_ITEMS:,} items.",
        examples=["{{ input.orders }}"],
        json_schema_extra=STORED_TEMPLATE,
    )
    node: ItemNode | None = Field(
        None,
        title="Node",
        description="One node that each item is executed with.",
        examples=[{"type": "transform", "config": {"output": "{{ index }}: {{ item.name }}"}}],
        json_schema_extra={"format": "node"},
    )
    spec: dict[str, JSON] | None = Field(
        None,
        title="Spec",
        description="A small workflow that each item is executed with: nodes, edges, outputs, and inputs with defaults.",
        examples=[{"nodes": [{"id": "a", "type": "transform", "config": {"output": "{{ item }}"}}], "edges": []}],
        json_schema_extra={"format": "spec"},
    )
    concurrency: int = Field(
        10, ge=1, le=100, title="At once", description="How many items run at the same time.", examples=[10]
    )
    on_item_error: Literal["fail", "collect"] = Field(
        "fail",
        validation_alias=AliasChoices("onItemError", "on_item_error"),
        title="When an item fails",
        description="`fail`: the node fails and the other items are stopped. `collect`: the output of the item is null and "
        "`errors` lists it.",
        examples=["collect"],
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.node is None) == (self.spec is None):
            raise ValueError("give either `node` or `spec`")
        return self


class MapNode(NodeType[MapConfig]):
    """Runs the items in order of their index, `concurrency` of them at a time."""

    name: ClassVar[str] = "map"
    title: ClassVar[str] = "Map"
    description: ClassVar[str] = (
        "Runs a node, or a small workflow, for each item of a list, several at a time. The output keeps the order."
    )
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "repeat"
    Config: ClassVar[type[NodeConfig]] = MapConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "description": "The output of each item, in the order of the list; null for an item that failed.",
            },
            "errors": {
                "type": "array",
                "description": "The items that failed, with `onItemError: collect`.",
                "items": {
                    "type": "object",
                    "properties": {
                        "index": {"type": "integer", "description": "The index of the item, from 0."},
                        "code": {"type": "string", "description": "The error code, as of a node."},
                        "message": {"type": "string", "description": "What went wrong."},
                        "retryable": {"type": "boolean", "description": "Whether another attempt may succeed."},
                        "details": {"description": "More about the error, such as status and body; or null."},
                    },
                    "required": ["index", "code", "message", "retryable", "details"],
                },
            },
        },
        "required": ["items", "errors"],
    }
    example: ClassVar[dict[str, Any]] = {
        "items": "{{ input.names }}",
        "node": {"type": "transform", "config": {"output": "{{ index + 1 }}. {{ item | title }}"}},
    }

    async def execute(self, config: MapConfig, ctx: NodeContext) -> Output:
        context = cast(RunNodeContext, ctx)  # the context of an item is derived from it
        items = _check_items(context.render(config.items))
        context.note_input({"count": len(items)})
        run_item = _item_runner(config, context)
        pool = ItemPool(items, run_item, context, config.concurrency, config.on_item_error == "collect")
        return Output(await pool.run())


def _item_runner(config: MapConfig, context: RunNodeContext) -> RunItem:
    """Prepare the node or the spec of the items.

    Raises:
        NodeFailure: CONFIG, if validation would not have accepted it: a node type that waits or
            is unknown.
    """
    node, types = config.node, context.types
    try:
        spec = parse(config.spec) if node is None else Spec(nodes=(_node_spec(context.node_id, node),))
        if problems := refused(spec, types):
            raise SpecError(problems)
        if node is None:
            return SpecItems(compile_spec(spec, types), context, _item_inputs(spec, context))
        [bound] = bind_nodes(spec, types).values()
        return NodeItems(bound, context)
    except (SpecError, PlanError) as error:
        raise NodeFailure("CONFIG", f"the node or spec for the items cannot be run: {error}") from error


def _item_inputs(spec: Spec, context: RunNodeContext) -> JSON:
    """Return the input of the run with the defaults of the spec of the items.

    Raises NodeFailure(CONFIG) if it does not match the schema of that spec.
    """
    inputs, problems = complete_nested_inputs(context.inputs, spec.inputs)
    if problems:
        messages = "; ".join(f"{one.field}: {one.message}" for one in problems[:MAX_MESSAGES])
        raise NodeFailure("CONFIG", f"the input of the run does not match `inputs` of the spec: {messages}")
    return inputs


def _check_items(items: JSON) -> list[JSON]:
    """Return the items. Raises NodeFailure(CONFIG) if they are no list, or too many."""
    if not isinstance(items, list):
        raise NodeFailure("CONFIG", f"`items` must give a list, not {quoted_json(items)}")
    if len(items) > MAX_ITEMS:
        raise NodeFailure("CONFIG", f"`items` gives {len(items):,} items; the limit is {MAX_ITEMS:,}")
    return items


def _node_spec(node_id: str, node: ItemNode) -> NodeSpec:
    retry, limits = None, node.retry
    if limits is not None:
        codes = frozenset(limits.on)
        retry = Retry(limits.max_attempts, limits.backoff_s, limits.multiplier, limits.max_s, codes)
    return NodeSpec(node_id, node.type, config=node.config, retry=retry, timeout_s=node.timeout_s)
