"""A client over HTTP that does not give up: it asks again, with the same idempotency key, until it has an answer.

That is what makes `accepted` a fact: a run counts once its id has come back, and a call whose answer was lost in a crash is
made good by its repeat.
"""

import asyncio
import time
from collections import Counter
from random import Random
from typing import Any

import httpx

from app.http_client import plain_client

PATIENCE_S = 150.0
"""Longer than any fault lasts: a call that has no answer by then has been forgotten."""
PAUSES_S = (0.05, 0.8)


class NoResponse(Exception):
    """No answer within PATIENCE_S."""


class ChaosClient:
    """`complaints` counts what servers said or did instead of answering, by kind."""

    def __init__(self, port: int, rng: Random) -> None:
        self._http = plain_client(timeout_s=30, base_url=f"http://127.0.0.1:{port}")
        self._rng = rng
        self.complaints: Counter[str] = Counter()
        self.unanswered = 0

    async def close(self) -> None:
        await self._http.aclose()

    def new_key(self) -> str:
        return f"chaos-{self._rng.getrandbits(64):016x}"

    async def ask(self, query: str, **variables: Any) -> Any:
        """The data of an answer without top-level errors, repeated until there is one. Raises Unanswered."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = (await self._http.post("/graphql", json={"query": query, "variables": variables})).json()
            except (httpx.TransportError, ValueError) as wrong:
                self.complaints[type(wrong).__name__] += 1
            else:
                if not answer.get("errors"):
                    return answer["data"]
                for error in answer["errors"]:
                    self.complaints[f"{error.get('extensions', {}).get('code')}: {error['message']}"] += 1
            await asyncio.sleep(self._rng.uniform(*PAUSES_S))
        self.unanswered += 1
        raise NoResponse(query)

    async def mutate(self, name: str, selection: str, **given: Any) -> Any:
        """The payload of one mutation, asked with one key however often it takes. Its problems are the caller's."""
        kind = f"{name[0].upper()}{name[1:]}Input"
        query = f"mutation ($input: {kind}!) {{ {name}(input: $input) {{ {selection} errors {{ code detail }} }} }}"
        given.setdefault("idempotencyKey", self.new_key())
        return (await self.ask(query, input=given))[name]
