"""The catalog of models: the resource `models`, by which nodes open a model.

One instance lives as long as the process. It caches clients and stores no conversation.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from difflib import get_close_matches

import httpx2
from cachetools import LRUCache
from langchain_core.language_models import BaseChatModel

from engine.catalog_file import CatalogError, ModelEntry, expand_variables
from engine.chat_models.availability import Availability
from engine.chat_models.base import ChatModel, ModelInfo, Sampling, Structured, is_hidden
from engine.chat_models.echo import ECHO, echo_model
from engine.chat_models.factory import OPENAI, build
from engine.chat_models.http_client import open_client
from engine.errors import NodeFailure
from engine.sdk.resources import Secrets

MAX_CLIENTS = 64
"""Cached clients: one for each model, key and sampling parameters."""

WITH_FINISH_REASON = frozenset(
    {OPENAI, "azure_openai", "anthropic", "mistralai", "groq", "deepseek", "xai", "openrouter", "google_genai"}
)
"""Providers whose streams end with a finish reason, so that a stream without one was cut off."""


class Models:
    """The models of the catalog file and `treadle/echo`."""

    def __init__(
        self, entries: Iterable[ModelEntry], client: httpx2.AsyncClient, secrets: Secrets | None = None
    ) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._client, self._secrets = client, secrets
        self._chats: LRUCache[tuple[str, str | None, Sampling], BaseChatModel] = LRUCache(MAX_CLIENTS)
        self._availability = Availability(client)

    @property
    def names(self) -> list[str]:
        """The names of all models."""
        return [ECHO.name, *self._entries]

    @property
    def has_secrets(self) -> bool:
        """Whether the available models depend on the project, since a key is one of its secrets."""
        return any(entry.api_key_secret is not None for entry in self._entries.values())

    async def listed(self, project_id: str | None = None) -> list[ModelInfo]:
        """Return all models by name, each with the reason if it cannot be used now.

        Bounded in time.

        Args:
            project_id: The project whose secrets may have keys; None if no project is known.
        """
        entries = list(self._entries.values())
        problems = await asyncio.gather(*(self._problem(entry, project_id) for entry in entries))
        infos = [_info(entry, problem) for entry, problem in zip(entries, problems, strict=True)]
        return sorted([ECHO, *infos], key=lambda info: info.name)

    async def _problem(self, entry: ModelEntry, project_id: str | None) -> str | None:
        try:
            if entry.api_key_secret is not None and project_id is None:
                has_secrets = self._secrets is not None
                return None if has_secrets else f"its key is the secret {entry.api_key_secret!r} of a project"
            key = await self._key(entry, project_id or "")
            if entry.provider != OPENAI:
                await self._chat(entry, key, Sampling())  # fails if a package is missing
            return await self._availability.problem(entry, key)
        except (CatalogError, NodeFailure) as error:
            return str(error)

    async def open(self, name: str, project_id: str, sampling: Sampling) -> ChatModel:
        """Return a model that is ready to be called.

        Args:
            name: The name in the catalog.
            project_id: The project whose secrets may have the key.
            sampling: The sampling parameters of the node.

        Raises:
            NodeFailure: MODEL_UNKNOWN, MODEL_UNAVAILABLE, MODEL_AUTH, SECRET or CONFIG.
        """
        if name == ECHO.name:
            return echo_model(sampling)
        if (missing := self.missing(name)) is not None:
            raise missing
        entry = self._entries[name]
        try:
            key = await self._key(entry, project_id)
            chat = await self._chat(entry, key, sampling)
        except CatalogError as error:
            raise NodeFailure("MODEL_UNAVAILABLE", f"the model {name!r} cannot be used: {error}") from error
        structured = entry.structured_output or _default_structured(entry)
        has_reason = entry.provider in WITH_FINISH_REASON
        hidden = key if is_hidden(key) else None
        return ChatModel(name, chat, structured, entry.price, has_reason, entry.timeout_s, hidden=hidden)

    async def _key(self, entry: ModelEntry, project_id: str) -> str | None:
        if entry.api_key is not None:
            return _check_key(entry, expand_variables(entry.api_key))
        if entry.api_key_secret is None:
            return None
        if self._secrets is None:
            raise NodeFailure(
                "SECRET", f"the key of the model {entry.name!r} is a secret, and this process has no access to secrets"
            )
        values = await self._secrets.resolve(project_id, [entry.api_key_secret])
        return _check_key(entry, values[entry.api_key_secret])

    async def _chat(self, entry: ModelEntry, key: str | None, sampling: Sampling) -> BaseChatModel:
        chat = self._chats.get((entry.name, key, sampling))
        if chat is None:
            # In a thread: the first call of a process imports the client library.
            chat = await asyncio.to_thread(build, entry, key, sampling, self._client)
            self._chats[entry.name, key, sampling] = chat
        return chat

    async def close(self) -> None:
        await self._availability.close()

    def missing(self, name: str) -> NodeFailure | None:
        """Return the failure of a node that uses this name, or None if there is such a model."""
        if name in self.names:
            return None
        near = get_close_matches(name, self.names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "the query `models` lists them; treadle.toml adds more"
        return NodeFailure("MODEL_UNKNOWN", f"there is no model {name[:100]!r}; {hint}")


def _check_key(entry: ModelEntry, key: str) -> str:
    """Return the key as it fits into an HTTP header. Raises NodeFailure(MODEL_AUTH)."""
    key = key.strip()  # a key that was read from a file may end with a line break
    if not key or not key.isascii() or not key.isprintable():
        raise NodeFailure(
            "MODEL_AUTH", f"the key of the model {entry.name!r} is empty, or has characters that no key has"
        )
    return key


def _default_structured(entry: ModelEntry) -> Structured:
    return "json_schema" if entry.provider == OPENAI else "function_calling"


def _info(entry: ModelEntry, problem: str | None) -> ModelInfo:
    return ModelInfo(
        entry.name, entry.provider, entry.description, entry.context_window, tuple(entry.capabilities), problem
    )


@asynccontextmanager
async def open_models(entries: Iterable[ModelEntry], secrets: Secrets | None = None) -> AsyncIterator[Models]:
    """Open the catalog and its HTTP client, and close both at the end."""
    async with open_client() as client:
        models = Models(entries, client, secrets)
        try:
            yield models
        finally:
            await models.close()
