"""The models there are, and the one way to get one: the resource `models`. Long-lived; holds clients, never a conversation."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from difflib import get_close_matches

import httpx2
from langchain_core.language_models import BaseChatModel

from engine.catalog_file import CatalogError, ModelEntry, expand_variables
from engine.chat_models.availability import Availability
from engine.chat_models.base import ChatModel, ModelInfo, Sampling, Structured, is_hidden
from engine.chat_models.echo import ECHO, echo_model
from engine.chat_models.factory import OPENAI, build
from engine.chat_models.http_client import open_client
from engine.errors import NodeFailure
from engine.sdk.resources import Secrets

KEPT = 64
"""Clients that are kept for the next call; one for each model, key and sampling."""

TELL_THEIR_END = frozenset(
    {OPENAI, "azure_openai", "anthropic", "mistralai", "groq", "deepseek", "xai", "openrouter", "google_genai"}
)
"""Providers whose streams end with a reason: one without was cut off."""


class Models:
    def __init__(
        self, entries: Iterable[ModelEntry], client: httpx2.AsyncClient, secrets: Secrets | None = None
    ) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._client, self._secrets = client, secrets
        self._kept: OrderedDict[tuple[str, str | None, Sampling], BaseChatModel] = OrderedDict()
        self._availability = Availability(client)

    @property
    def names(self) -> list[str]:
        return [ECHO.name, *self._entries]

    @property
    def has_secrets(self) -> bool:
        """Whether it depends on the project which of them can be used."""
        return any(entry.api_key_secret is not None for entry in self._entries.values())

    async def listed(self, project_id: str | None = None) -> list[ModelInfo]:
        """All there are, with whether they can be used now; bounded in time. `project_id` is whose secrets are looked for."""
        entries = list(self._entries.values())
        problems = await asyncio.gather(*(self._problem(entry, project_id) for entry in entries))
        told = [_info(entry, problem) for entry, problem in zip(entries, problems, strict=True)]
        return sorted([ECHO, *told], key=lambda info: info.name)

    async def _problem(self, entry: ModelEntry, project_id: str | None) -> str | None:
        try:
            if entry.api_key_secret is not None and project_id is None:
                return (
                    None
                    if self._secrets is not None
                    else f"its key is the secret {entry.api_key_secret!r} of a project"
                )
            key = await self._key(entry, project_id or "")
            if entry.provider != OPENAI:
                await self._chat(entry, key, Sampling())  # which says so where its package is missing
            return await self._availability.problem(entry, key)
        except (CatalogError, NodeFailure) as wrong:
            return str(wrong)

    async def open(self, name: str, project_id: str, sampling: Sampling) -> ChatModel:
        """The model, ready to be called. Raises NodeFailure."""
        if name == ECHO.name:
            return echo_model(sampling)
        if (missing := self.missing(name)) is not None:
            raise missing
        entry = self._entries[name]
        try:
            key = await self._key(entry, project_id)
            chat = await self._chat(entry, key, sampling)
        except CatalogError as wrong:
            raise NodeFailure("MODEL_UNAVAILABLE", f"the model {name!r} cannot be used: {wrong}") from wrong
        how = entry.structured_output or _usual(entry)
        tells_its_end = entry.provider in TELL_THEIR_END
        return ChatModel(
            name, chat, how, entry.price, tells_its_end, entry.timeout_s, hidden=key if is_hidden(key) else None
        )

    async def _key(self, entry: ModelEntry, project_id: str) -> str | None:
        if entry.api_key is not None:
            return _fit_for_a_header(entry, expand_variables(entry.api_key))
        if entry.api_key_secret is None:
            return None
        if self._secrets is None:
            raise NodeFailure("SECRET", f"this process has no secrets, and {entry.name!r} has its key in one")
        found = await self._secrets.resolve(project_id, [entry.api_key_secret])
        return _fit_for_a_header(entry, found[entry.api_key_secret])

    async def _chat(self, entry: ModelEntry, key: str | None, sampling: Sampling) -> BaseChatModel:
        place = (entry.name, key, sampling)
        if place not in self._kept:
            # In a thread: the first call of a process imports the client library.
            self._kept[place] = await asyncio.to_thread(build, entry, key, sampling, self._client)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return self._kept[place]

    async def close(self) -> None:
        await self._availability.close()

    def missing(self, name: str) -> NodeFailure | None:
        """What a node that names it would fail with, where there is no such model."""
        if name in self.names:
            return None
        near = get_close_matches(name, self.names, n=1)
        meant = f"did you mean {near[0]!r}?" if near else "the query `models` lists them; treadle.toml adds more"
        return NodeFailure("MODEL_UNKNOWN", f"there is no model {name[:100]!r}; {meant}")


def _fit_for_a_header(entry: ModelEntry, key: str) -> str:
    key = key.strip()  # of a line break, as keys out of files have one
    if not key or not key.isascii() or not key.isprintable():
        raise NodeFailure("MODEL_AUTH", f"the key of the model {entry.name!r} is empty or holds what no key holds")
    return key


def _usual(entry: ModelEntry) -> Structured:
    return "json_schema" if entry.provider == OPENAI else "function_calling"


def _info(entry: ModelEntry, problem: str | None) -> ModelInfo:
    return ModelInfo(
        entry.name, entry.provider, entry.description, entry.context_window, tuple(entry.capabilities), problem
    )


@asynccontextmanager
async def open_models(entries: Iterable[ModelEntry], secrets: Secrets | None = None) -> AsyncIterator[Models]:
    async with open_client() as client:
        models = Models(entries, client, secrets)
        try:
            yield models
        finally:
            await models.close()
