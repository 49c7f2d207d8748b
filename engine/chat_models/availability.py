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
from engine.chat_models.factory import OPENAI, OPENAI_URL, base_url_of
from engine.connection_faults import connection_fault
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
        self._probes: TTLCache[tuple[str, str | None, str], asyncio.Task[ProbeResult]]
        self._probes = TTLCache(MAX_ENDPOINTS, FRESH_S)

    async def problem(self, entry: ModelEntry, key: str | None) -> str | None:
        """Return why the model cannot be used now, or None if it can or that is not known.

        Raises:
            CatalogError: An environment variable of the entry is not set.
        """
        if not entry.check or (entry.provider != OPENAI and entry.base_url is None):
            return None
        if entry.provider != OPENAI:
            result = await self._probe(expand_variables(entry.base_url or ""), None, _host_of(entry))
            return None if result.was_reached else result.problem  # its list is unknown
        result = await self._probe(f"{base_url_of(entry)}/models", key, _host_of(entry))
        if result.problem is None and not _is_listed(entry.model or entry.name, result.names):
            return f"its endpoint does not list {entry.model or entry.name!r}"
        return result.problem

    async def close(self) -> None:
        tasks = list(self._probes.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, url: str, key: str | None, host: str) -> ProbeResult:
        probe = self._probes.get((url, key, host))
        if probe is None or probe.cancelled():
            probe = self._probes[url, key, host] = asyncio.create_task(self._request(url, key, host))
        # A caller that is cancelled does not cancel the request of the others.
        return await asyncio.shield(probe)

    async def _request(self, url: str, key: str | None, host: str) -> ProbeResult:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._read(url, key)
        except TimeoutError:
            return ProbeResult(f"no answer from {host} within {TIMEOUT_S:g} s", was_reached=False)
        except (httpx2.HTTPError, httpx2.InvalidURL) as fault:
            reason = connection_fault(fault) or "the reason is not known"
            return ProbeResult(f"no answer from {host}: {reason}", was_reached=False)

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


def _host_of(entry: ModelEntry) -> str:
    """Return the host for messages. A variable may put a secret into the address."""
    url = entry.base_url or OPENAI_URL
    try:
        return "its endpoint" if "${" in url else urlsplit(url).hostname or "its endpoint"
    except ValueError:
        return "its endpoint"


def _names(body: bytes) -> frozenset[str]:
    try:
        models: Any = parse_json(body)["data"]
        return frozenset(str(model["id"]) for model in models)
    except (ValueError, LookupError, TypeError):
        return frozenset()


def _is_listed(model: str, names: frozenset[str]) -> bool:
    """Return whether the list has the model. `llama3.2` matches `llama3.2:latest`, as in Ollama."""
    return not names or model in names or any(name.partition(":")[0] == model for name in names)
