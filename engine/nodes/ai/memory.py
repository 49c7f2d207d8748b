"""The conversation memory of `llm` and `agent`: the messages of the thread that the run belongs to.

A node reads the messages within its token window once, before it asks. What it adds is part of its
output, so it is stored with the result of the node or not at all. Runs without a thread, and the items
of a map, have an empty conversation and store nothing.
"""

from collections.abc import Iterator, Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import AliasChoices, Field

from engine.errors import NodeFailure
from engine.expressions.analysis import THREAD, references
from engine.sdk.node import NodeConfig, NodeContext, ThreadMessage
from engine.sdk.resources import Threads
from engine.types import JSON

WINDOW = 4_000
"""The token window of a node that names `thread` in a template and has no `memory`."""
_TYPES = {"user": HumanMessage, "assistant": AIMessage}


class Memory(NodeConfig):
    """How a node uses the thread of its run."""

    max_tokens: int = Field(
        WINDOW,
        ge=1,
        le=1_000_000,
        validation_alias=AliasChoices("maxTokens", "max_tokens"),
        title="Window (tokens)",
        description="The last messages of the thread that fit this number of tokens are sent to the model. A token is "
        "estimated as three bytes of text.",
        examples=[4_000],
    )
    store: bool = Field(
        True,
        title="Store",
        description="Whether the messages of the user and the answer are appended to the thread.",
        examples=[False],
    )


async def load_thread(memory: Memory | None, ctx: NodeContext) -> list[ThreadMessage]:
    """Read the messages of the window; none in a run without a thread.

    Raises:
        NodeFailure: This process has no access to threads.
    """
    if ctx.thread_key is None:
        return []
    threads: Threads | None = ctx.resources.get("threads")
    if threads is None:
        raise NodeFailure("CONFIG", "this process has no access to threads")
    window = WINDOW if memory is None else memory.max_tokens
    return await threads.load(ctx.project_id, ctx.thread_key, window)


def names_thread(templates: JSON) -> bool:
    """Whether a template in a value names `thread`."""
    return any(THREAD in references(text) for text in _texts(templates) if THREAD in text)


def as_view(messages: Sequence[ThreadMessage], ctx: NodeContext) -> dict[str, JSON]:
    """Return what templates see as `thread`."""
    return {
        "key": ctx.thread_key,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
    }


def _texts(value: JSON) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def as_chat(messages: Sequence[ThreadMessage]) -> list[BaseMessage]:
    """Return messages of a thread as messages to a model."""
    return [_TYPES[message.role](content=message.content) for message in messages]


def new_messages(memory: Memory | None, sent: Sequence[BaseMessage], answer: str) -> tuple[ThreadMessage, ...]:
    """Return what a node appends to the thread.

    Args:
        memory: The config of the node.
        sent: The messages that it has rendered. Of a message of several blocks, the text is stored.
        answer: The text of the answer.
    """
    if memory is None or not memory.store:
        return ()
    roles = {kind: role for role, kind in _TYPES.items()}
    own = [ThreadMessage(roles[type(one)], str(one.text)) for one in sent if type(one) in roles]
    return (*own, ThreadMessage("assistant", answer))
