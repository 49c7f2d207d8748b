"""A server of the chat-completions protocol, its models in a catalog, and `llm` nodes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.catalog_file import ModelEntry
from engine.chat_models.catalog import Models, open_models
from engine.errors import NodeFailure
from engine.sdk.node import Output
from engine.tools.catalog import Tools, open_tools
from tests.engine.node_runner import NodeHarness
from tests.peers import chat, chat_protocol
from tests.peers.http import Peer, http_peer

PRICE = {"input": 2.0, "output": 10.0, "cached_input": 0.5}


class LlmHarness:
    """The server, a catalog of all its models, and functions that run `llm` nodes."""

    def __init__(self, peer: Peer, models: Models, tools: Tools) -> None:
        self.peer, self.models = peer, models
        self.resources = {"models": models, "tools": tools}

    def harness(self, **scope: Any) -> NodeHarness:
        return NodeHarness(scope, self.resources)

    async def output(self, model: str = "repeats", prompt: Any = "hi", **config: Any) -> Any:
        outcome = await self.harness().run("llm", {"model": model, "prompt": prompt, **config})
        assert isinstance(outcome, Output)
        return outcome.value

    async def failure(self, model: str, prompt: Any = "hi", **config: Any) -> NodeFailure:
        with pytest.raises(NodeFailure) as caught:
            await self.output(model, prompt, **config)
        return caught.value

    def request(self, index: int = -1) -> dict[str, Any]:
        return chat_protocol.body_of(self.peer.seen[index])


def entry(name: str, url: str, **more: Any) -> ModelEntry:
    return ModelEntry.model_validate({"name": name, "base_url": f"{url}/v1", "api_key": "sk-secret-canary", **more})


@asynccontextmanager
async def open_llm_harness() -> AsyncIterator[LlmHarness]:
    async with http_peer() as peer, open_tools({}) as tools:
        entries = [entry(name, peer.url) for name in chat.MODELS]
        entries += [
            entry("priced", peer.url, model="repeats", price=PRICE),
            entry("impatient", peer.url, model="falls-silent", timeout_s=0.2),
            entry("impatient-with-drips", peer.url, model="drips", timeout_s=0.2),
            entry("impatient-with-silence", peer.url, model="hangs", timeout_s=0.2),
            entry("by-prompt", peer.url, model="fenced", structured_output="prompt"),
            entry("by-function", peer.url, model="answers-by-function", structured_output="function_calling"),
            entry("prose-by-prompt", peer.url, model="prose", structured_output="prompt"),
            entry("plain-by-function", peer.url, model="plain", structured_output="function_calling"),
            entry("modern", peer.url, model="repeats", max_tokens_field="max_completion_tokens"),
            entry("unreachable", "http://127.0.0.1:1"),
            entry("nowhere", "http://nowhere.invalid"),
            entry("unset", peer.url, api_key="${NO_SUCH_VARIABLE}"),
            entry("unset-url", peer.url, base_url="${NO_SUCH_VARIABLE}"),
            entry("odd-key", peer.url, api_key="schlüssel"),
            entry("uninstalled", peer.url, provider="anthropic"),
            entry("unheard-of", peer.url, provider="nosuchprovider"),
            entry("misconfigured", peer.url, options={"n": 0}),
        ]
        async with open_models(entries) as models:
            yield LlmHarness(peer, models, tools)
