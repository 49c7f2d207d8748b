"""The catalog of models as clients see it."""

from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from engine.catalog_file import ModelEntry
from engine.chat_models.catalog import open_models
from engine.errors import NodeFailure
from resolvers.context import Context
from schema.schema import schema
from tests.conftest import DEFAULT_PROJECT
from tests.peers import chat as chat  # Registers the chat endpoint of the peer.
from tests.peers.http import Peer

MODELS = "query ($project: ID) { models(projectId: $project) { name provider contextWindow capabilities available problem } }"


class OneProjectSecrets:
    """Secrets of the default project only."""

    async def resolve(self, project_id: str, names: Collection[str]) -> dict[str, str]:
        if project_id != DEFAULT_PROJECT:
            raise NodeFailure("SECRET", "no such secret")
        return {name: "wrong" if name == "bad_key" else "sk-right" for name in names}


@pytest.fixture
async def with_models(context: Context, peer: Peer) -> AsyncIterator[Context]:
    endpoint: dict[str, Any] = {"base_url": f"{peer.url}/v1"}
    entries = [
        {"name": "reachable", "model": "repeats", "context_window": 8192, **endpoint},
        {"name": "by-secret", "model": "repeats", "api_key_secret": "good_key", **endpoint},
        {"name": "by-bad-secret", "model": "repeats", "api_key_secret": "bad_key", **endpoint},
        {"name": "by-variable", "model": "repeats", "api_key": "${NO_SUCH_VARIABLE}", **endpoint},
        {"name": "not-pulled", "model": "llama3.2", **endpoint},
        {"name": "down", "base_url": "http://name:password@127.0.0.1:1/v1"},
        {"name": "unchecked", "base_url": "http://127.0.0.1:1/v1", "check": False},
        {"name": "claude", "provider": "anthropic", "api_key": "sk-x"},
    ]
    async with open_models([ModelEntry.model_validate(entry) for entry in entries], OneProjectSecrets()) as models:
        context.resources = {"models": models}
        yield context


async def listed(context: Context, project: str | None = None) -> dict[str, Any]:
    answer = await schema.execute(MODELS, {"project": project}, context_value=context)
    assert answer.errors is None and answer.data is not None, answer.errors
    assert [model["name"] for model in answer.data["models"]] == sorted(
        model["name"] for model in answer.data["models"]
    )
    return {model["name"]: model for model in answer.data["models"]}


async def test_models_are_listed_with_their_availability(with_models: Context) -> None:
    models = await listed(with_models)
    assert models["reachable"] == {
        "name": "reachable",
        "provider": "openai",
        "contextWindow": 8192,
        "capabilities": ["text", "structured_output", "tools"],
        "available": True,
        "problem": None,
    }
    assert models["treadle/echo"]["available"]
    problems = {name: model["problem"] for name, model in models.items() if not model["available"]}
    assert problems.pop("down").startswith("no answer from 127.0.0.1: ")
    assert "pip install langchain-anthropic" in problems.pop("claude")
    assert problems == {
        "by-bad-secret": "its endpoint refuses the key",
        "by-variable": "the environment variable NO_SUCH_VARIABLE is not set",
        "not-pulled": "its endpoint does not list 'llama3.2'",
    }


async def test_an_endpoint_is_checked_once_for_several_requests(with_models: Context, peer: Peer) -> None:
    for _ in range(3):
        await listed(with_models, DEFAULT_PROJECT)
    # Once for each key: none, the right one and the wrong one.
    assert peer.count("/v1/models") == 3


async def test_a_project_of_another_user_is_not_found(with_models: Context) -> None:
    answer = await schema.execute(MODELS, {"project": "prj_other"}, context_value=with_models)
    assert answer.errors is not None
    assert "sk-" not in str(answer)


async def test_a_server_without_a_catalog_lists_nothing(context: Context) -> None:
    assert await listed(context) == {}
