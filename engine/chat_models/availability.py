"""Checks whether the endpoint of a model can be used now, by a request for its list of models.

Concurrent callers share one request, and its result is cached for FRESH_S seconds. A request takes
at most TIMEOUT_S seconds.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from cachetools import TTLCache

from engine.catalog_file import ModelEntry, expand_variables
from engine.chat_models.factory import OPENAI, base_url_of
from engine.values.json_text import parse_json

TIMEOUT_S = 3.0
FRESH_S = 15.0
MAX_ENDPOINTS = 1024
"""Endpoints with cached results, one for each address and key."""
MAX_LIST = 4 * 1024 * 1024
"""Bytes of a list of models; a longer one is not read."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a request.

    `names` are the models that the endpoint lists; empty if it has no list.
    """

    problem: str | None = None
    names: frozenset[str] = frozenset()
    was_reached: bool = True


class Availability:
    """Checks endpoints and caches the results by address and key."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._probes: TTLCache[tuple[str, str | None], asyncio.Task[ProbeResult]]
        self._probes = TTLCache(MAX_ENDPOINTS, FRESH_S)

    async def problem(self, entry: ModelEntry, key: str | None) -> str | None:
        """Return why the model cannot be used now, or None if it can or that is not known.

        Raises:
            CatalogError: An environment variable of the entry is not set.
        """
        if not entry.check or (entry.provider != OPENAI and entry.base_url is None):
            return None
        if entry.provider != OPENAI:
            result = await self._probe(expand_variables(entry.base_url or ""), None)
            return None if result.was_reached else result.problem  # its list is unknown
        result = await self._probe(f"{base_url_of(entry)}/models", key)
        if result.problem is None and not _is_listed(entry.model or entry.name, result.names):
            return f"its endpoint does not list {entry.model or entry.name!r}"
        return result.problem

    async def close(self) -> None:
        tasks = list(self._probes.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, url: str, key: str | None) -> ProbeResult:
        probe = self._probes.get((url, key))
        if probe is None or probe.cancelled():
            probe = self._probes[url, key] = asyncio.create_task(self._request(url, key))
        # A caller that is cancelled does not cancel the request of the others.
        return await asyncio.shield(probe)

    async def _request(self, url: str, key: str | None) -> ProbeResult:
        try:
            host = urlsplit(url).hostname or "its endpoint"  # the URL may contain a password
        except ValueError:
            return ProbeResult("its address cannot be read", was_reached=False)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._read(url, key)
        except TimeoutError:
            return ProbeResult(f"no answer from {host} within {TIMEOUT_S:g} s", was_reached=False)
        except (httpx2.HTTPError, httpx2.InvalidURL) as fault:
            return ProbeResult(f"no answer from {host}: {fault or type(fault).__name__}", was_reached=False)

    async def _read(self, url: str, key: str | None) -> ProbeResult:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code in (401, 403):
                return ProbeResult("its endpoint refuses the key" if key else "its endpoint requires a key")
            if response.status_code >= 500:
                return ProbeResult(f"its endpoint answers {response.status_code}")
            if response.status_code != 200:
                return ProbeResult()  # an endpoint without a list may still serve the model
            body = bytearray()
            async for data in response.aiter_bytes():
                body += data
                if len(body) > MAX_LIST:
                    return ProbeResult()
        return ProbeResult(names=_names(bytes(body)))


def _names(body: bytes) -> frozenset[str]:
    try:
        models: Any = parse_json(body)["data"]
        return frozenset(str(model["id"]) for model in models)
    except (ValueError, LookupError, TypeError):
        return frozenset()


def _is_listed(model: str, names: frozenset[str]) -> bool:
    """Return whether the list has the model. `llama3.2` matches `llama3.2:latest`, as in Ollama."""
    return not names or model in names or any(name.partition(":")[0] == model for name in names)
