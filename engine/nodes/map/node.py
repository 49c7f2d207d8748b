"""`map`: runs a node, or a small spec, over each item of a list, so many at once. Items that are done survive a crash."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from engine.errors import NodeFailure
from engine.expressions.lexer import has_code
from engine.graph.bound_node import bind_nodes
from engine.graph.compiler import compile_spec
from engine.graph.plan import PlanError
from engine.nodes.map.item_runner import NodeItems, RunItem, SpecItems
from engine.nodes.map.pool import ItemPool
from engine.problems import FieldProblem, join_path
from engine.runtime.node_context import RunNodeContext
from engine.sdk.annotations import TemplateText
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.spec.model import NodeSpec, Retry, Spec, SpecError
from engine.spec.parser import parse
from engine.types import JSON
from engine.validation.nested import node_problems, node_texts, refused, spec_inside_problems, spec_inside_texts

if TYPE_CHECKING:
    from engine.sdk.node_types import NodeTypes

MAX_ITEMS = 100_000


def _gives_a_list(given: JSON) -> JSON:
    if isinstance(given, list) or (isinstance(given, str) and has_code(given)):
        return given
    raise ValueError("must be a list, or a template that gives one")


class ItemRetry(NodeConfig):
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
        description="Seconds after the first attempt.",
        examples=[1],
    )
    multiplier: float = Field(
        2.0, ge=1, le=100, title="Factor", description="How much longer each pause is than the last.", examples=[2]
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


class ItemNode(NodeConfig):
    type: str = Field(
        min_length=1,
        max_length=200,
        title="Type",
        description="The type of the node that each item goes through. Not `delay`, `human`, `subworkflow` or `map`.",
        examples=["llm"],
        json_schema_extra={"format": "node-type"},
    )
    config: dict[str, JSON] = Field(
        default_factory=dict,
        title="Config",
        description="Its config. Its templates see `item` and `index`, and all that this node sees.",
        examples=[{"model": "treadle/echo", "prompt": "Summarise: {{ item }}"}],
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        le=31_536_000,
        validation_alias=AliasChoices("timeoutS", "timeout_s"),
        title="Time limit (s)",
        description="Seconds an attempt at one item may take.",
        examples=[60],
    )
    retry: ItemRetry | None = Field(
        None, title="Retry", description="How often an item is tried again.", examples=[{"maxAttempts": 3}]
    )


class MapConfig(NodeConfig):
    """Exactly one of `node` and `spec`."""

    items: Annotated[JSON, AfterValidator(_gives_a_list)] = Field(
        title="Items",
        description=f"A template that gives the list, or a list with templates; up to {MAX_ITEMS:,} items.",
        examples=["{{ input.orders }}"],
        json_schema_extra={"format": "template"},
    )
    node: ItemNode | None = Field(
        None,
        title="Node",
        description="What each item goes through: one node.",
        examples=[{"type": "transform", "config": {"output": "{{ index }}: {{ item.name }}"}}],
        json_schema_extra={"format": "node"},
    )
    spec: dict[str, JSON] | None = Field(
        None,
        title="Spec",
        description="What each item goes through: nodes and edges, with their outputs, as in a workflow.",
        examples=[{"nodes": [{"id": "a", "type": "transform", "config": {"output": "{{ item }}"}}], "edges": []}],
        json_schema_extra={"format": "spec"},
    )
    concurrency: int = Field(10, ge=1, le=100, title="At once", description="Items under way at once.", examples=[10])
    on_item_error: Literal["fail", "collect"] = Field(
        "fail",
        validation_alias=AliasChoices("onItemError", "on_item_error"),
        title="When an item fails",
        description="`fail`: the node fails, the other items are stopped. `collect`: its output is null, and `errors` names it.",
        examples=["collect"],
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.node is None) == (self.spec is None):
            raise ValueError("give either `node` or `spec`")
        return self


class MapNode(NodeType[MapConfig]):
    name: ClassVar[str] = "map"
    title: ClassVar[str] = "Map"
    description: ClassVar[str] = (
        "Runs a node, or a small workflow, over each item of a list, many at once and in order."
    )
    category: ClassVar[str] = "flow"
    icon: ClassVar[str] = "repeat"
    Config: ClassVar[type[NodeConfig]] = MapConfig
    output_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "description": "The output of each item, in their order; null for one that failed.",
            },
            "errors": {
                "type": "array",
                "description": "The items that failed, where they are collected.",
                "items": {
                    "type": "object",
                    "properties": {
                        "index": {"type": "integer", "description": "Which item it was, from 0."},
                        "code": {"type": "string", "description": "As of a node's error."},
                        "message": {"type": "string", "description": "What went wrong."},
                    },
                    "required": ["index", "code", "message"],
                },
            },
        },
        "required": ["items", "errors"],
    }
    example: ClassVar[dict[str, Any]] = {
        "items": "{{ input.names }}",
        "node": {"type": "transform", "config": {"output": "{{ index + 1 }}. {{ item | title }}"}},
    }

    def __init__(self, types: "NodeTypes | None" = None) -> None:
        self._types = types

    def among(self, types: "NodeTypes") -> Self:
        return type(self)(types)

    def texts_within(self, raw: JSON, path: str) -> Iterator[TemplateText]:
        if self._types is not None and isinstance(raw, dict):
            yield from node_texts(raw.get("node"), join_path(path, "node"), self._types)
            yield from spec_inside_texts(raw.get("spec"), join_path(path, "spec"), self._types)

    def problems_within(self, raw: JSON, path: str) -> Iterator[FieldProblem]:
        if self._types is not None and isinstance(raw, dict):
            yield from node_problems(raw.get("node"), join_path(path, "node"), self._types)
            yield from spec_inside_problems(raw.get("spec"), join_path(path, "spec"), self._types)

    async def execute(self, config: MapConfig, ctx: NodeContext) -> Output:
        context = cast(RunNodeContext, ctx)  # an item's context is made of it
        items = _checked(context.render(config.items))
        context.note_input({"count": len(items)})
        run_item = self._run_item(config, context)
        lanes = ItemPool(items, run_item, context, config.concurrency, config.on_item_error == "collect")
        return Output(await lanes.run())

    def _run_item(self, config: MapConfig, context: RunNodeContext) -> RunItem:
        """Raises NodeFailure(CONFIG) for what validation would not have let through."""
        types: Mapping[str, NodeType[Any]] = self._types or {}
        node = config.node
        try:
            spec = parse(config.spec) if node is None else Spec(nodes=(_as_spec(context.node_id, node),))
            if wrong := refused(spec, types):
                raise SpecError(wrong)
            if node is None:
                return SpecItems(compile_spec(spec, types), context)
            [work] = bind_nodes(spec, types).values()
            return NodeItems(work, context)
        except (SpecError, PlanError) as wrong:
            raise NodeFailure("CONFIG", f"what is to be done with each item cannot be run: {wrong}") from wrong


def _checked(items: JSON) -> list[JSON]:
    if not isinstance(items, list):
        raise NodeFailure("CONFIG", f"`items` must give a list, not {items!r:.80}")
    if len(items) > MAX_ITEMS:
        raise NodeFailure("CONFIG", f"`items` gives {len(items):,} items; the limit is {MAX_ITEMS:,}")
    return items


def _as_spec(node_id: str, node: ItemNode) -> NodeSpec:
    given = node.retry
    retry = None if given is None else Retry(given.max_attempts, given.backoff_s, given.multiplier, given.max_s)
    return NodeSpec(node_id, node.type, config=node.config, retry=retry, timeout_s=node.timeout_s)
