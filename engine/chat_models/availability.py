"""Whether the endpoint of a model can be used now, as far as a cheap question tells: the list of its models.

An answer is kept for a while and shared by whoever asks meanwhile; a question never takes longer than TIMEOUT_S.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson

from engine.catalog_file import ModelEntry, expand_variables
from engine.chat_models.factory import OPENAI, address_of

TIMEOUT_S = 3.0
FRESH_S = 15.0
MAX_LIST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`names` are the models that the endpoint lists; none where it does not say."""

    problem: str | None = None
    names: frozenset[str] = frozenset()
    was_reached: bool = True


@dataclass(slots=True)
class _Asked:
    at: float
    answer: asyncio.Task[ProbeResult]


class Availability:
    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._asked: dict[tuple[str, str | None], _Asked] = {}

    async def problem(self, entry: ModelEntry, key: str | None) -> str | None:
        """None: it can be used. Raises CatalogError."""
        if not entry.check or (entry.provider != OPENAI and entry.base_url is None):
            return None
        if entry.provider != OPENAI:
            answer = await self._answer(expand_variables(entry.base_url or ""), None)
            return None if answer.was_reached else answer.problem  # no more is known of this protocol
        answer = await self._answer(f"{address_of(entry)}/models", key)
        if answer.problem is None and not _is_listed(entry.model or entry.name, answer.names):
            return f"its endpoint does not list {entry.model or entry.name!r}"
        return answer.problem

    async def close(self) -> None:
        tasks = [asked.answer for asked in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, url: str, key: str | None) -> ProbeResult:
        now = asyncio.get_running_loop().time()
        asked = self._asked.get((url, key))
        if asked is None or now > asked.at + FRESH_S or asked.answer.cancelled():
            self._asked = {place: one for place, one in self._asked.items() if now <= one.at + FRESH_S}
            asked = self._asked[url, key] = _Asked(now, asyncio.create_task(self._ask(url, key)))
        return await asyncio.shield(asked.answer)

    async def _ask(self, url: str, key: str | None) -> ProbeResult:
        try:
            where = urlsplit(url).hostname or "its endpoint"  # and no more of the address, which may hold a password
        except ValueError:
            return ProbeResult("its address cannot be read", was_reached=False)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._read(url, key)
        except TimeoutError:
            return ProbeResult(f"no answer from {where} within {TIMEOUT_S:g} s", was_reached=False)
        except (httpx2.HTTPError, httpx2.InvalidURL) as fault:
            return ProbeResult(f"no answer from {where}: {fault or type(fault).__name__}", was_reached=False)

    async def _read(self, url: str, key: str | None) -> ProbeResult:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code in (401, 403):
                return ProbeResult("its endpoint refuses the key" if key else "its endpoint wants a key")
            if response.status_code >= 500:
                return ProbeResult(f"its endpoint answers {response.status_code}")
            if response.status_code != 200:
                return ProbeResult()  # it has no list, which says nothing of what it can do
            body = bytearray()
            async for data in response.aiter_bytes():
                body += data
                if len(body) > MAX_LIST:
                    return ProbeResult()
        return ProbeResult(names=_names(bytes(body)))


def _names(body: bytes) -> frozenset[str]:
    try:
        listed: Any = orjson.loads(body)["data"]
        return frozenset(str(one["id"]) for one in listed)
    except (ValueError, LookupError, TypeError):
        return frozenset()


def _is_listed(model: str, names: frozenset[str]) -> bool:
    """Ollama takes `llama3.2` for `llama3.2:latest`."""
    return not names or model in names or any(name.partition(":")[0] == model for name in names)
