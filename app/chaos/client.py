"""The HTTP client of the load: repeats each call with its idempotency key until it is answered.

Therefore the suite knows which runs were accepted: a run counts when its id has been returned, and
if a crash loses a response, the repeated call returns the same run.
"""

import asyncio
import time
from collections import Counter
from random import Random
from typing import Any

import httpx

from app.http_client import plain_client

TIMEOUT_S = 150.0
"""Seconds after which a call counts as never answered. Every fault is shorter."""
PAUSES_S = (0.05, 0.8)
"""Shortest and longest pause between two attempts, in seconds."""


class NoResponse(Exception):
    """A call had no response within `TIMEOUT_S`."""


class ChaosClient:
    """A client of the server under test.

    Attributes:
        errors: Number of errors that calls met before they were answered, by kind.
        unanswered: Number of calls that were never answered.
    """

    def __init__(self, port: int, rng: Random) -> None:
        self._http = plain_client(timeout_s=30, base_url=f"http://127.0.0.1:{port}")
        self._rng = rng
        self.errors: Counter[str] = Counter()
        self.unanswered = 0

    async def close(self) -> None:
        await self._http.aclose()

    def new_key(self) -> str:
        return f"chaos-{self._rng.getrandbits(64):016x}"

    async def execute(self, query: str, **variables: Any) -> Any:
        """Repeat an operation until it succeeds, and return its `data`. Raises NoResponse."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                body = (await self._http.post("/graphql", json={"query": query, "variables": variables})).json()
            except (httpx.TransportError, ValueError) as failure:
                self.errors[type(failure).__name__] += 1
            else:
                if not body.get("errors"):
                    return body["data"]
                for error in body["errors"]:
                    self.errors[f"{error.get('extensions', {}).get('code')}: {error['message']}"] += 1
            await asyncio.sleep(self._rng.uniform(*PAUSES_S))
        self.unanswered += 1
        raise NoResponse(query)

    async def mutate(self, name: str, selection: str, /, **input: Any) -> Any:
        """Execute a mutation with one idempotency key, and return its payload, problems included.

        Args:
            name: The name of the mutation.
            selection: The selected fields of its payload besides `errors`.
            input: The fields of its input.
        """
        kind = f"{name[0].upper()}{name[1:]}Input"
        query = f"mutation ($input: {kind}!) {{ {name}(input: $input) {{ {selection} errors {{ code detail }} }} }}"
        input.setdefault("idempotencyKey", self.new_key())
        return (await self.execute(query, input=input))[name]

    async def post(self, url: str, body: Any) -> int | None:
        """Post once to an address of the server. Return the status, or None if there was no response."""
        try:
            return (await self._http.post(url, json=body)).status_code
        except httpx.TransportError as failure:
            self.errors[type(failure).__name__] += 1
            return None
