"""The client of commands such as `treadle run`: `treadle.client` with the errors and hints of the command line."""

import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Self

import httpx2

from treadle.client import (
    AddressError,
    AsyncClient,
    RunData,
    RunUpdateData,
    ServerUnavailable,
    TreadleError,
    ValidationProblemError,
)
from treadle.client.exchange import http_options
from treadle.client.retries import OnRetry


class RunRefused(Exception):
    """The server does not respond, refuses the request, or is not Treadle. The message says why, and what to do."""


class ApiClient:
    """A client of one server. Use it as `async with`, or call `aclose`.

    Args:
        address: `127.0.0.1:8000`, or an address such as `https://treadle.example.com`.
        token: A token or an API key, for a server with sign-in.

    Attributes:
        on_retry: Called before each further attempt of `wait_...` and `watch_run`.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self.address = _base_of(address)
        self.page = f"{self.address}/graphql"
        self.on_retry: OnRetry | None = None
        is_secure = self.address.startswith("https:")
        # SSL_CERT_FILE and SSL_CERT_DIR replace the authorities of the machine.
        tls = {"verify": ssl.create_default_context()} if is_secure else http_options(self.page)
        self._http = httpx2.AsyncClient(trust_env=is_secure, **tls)
        self._once = AsyncClient(self.page, token=token, retry_s=0, http=self._http)
        self._patient = AsyncClient(
            self.page, token=token, retry_s=float("inf"), on_retry=self._report, http=self._http
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def _report(self, error: TreadleError, pause_s: float) -> None:
        if self.on_retry is not None:
            self.on_retry(error, pause_s)

    async def execute(self, query: str, **variables: Any) -> dict[str, Any]:
        """Send a query or mutation once, and return its `data`. Raises RunRefused."""
        try:
            return await self._once.execute(query, variables)
        except TreadleError as error:
            raise refusal(error) from error

    async def wait_for(self, query: str, **variables: Any) -> dict[str, Any]:
        """Send a query until the server responds, and return its `data`. Raises RunRefused."""
        try:
            return await self._patient.execute(query, variables)
        except TreadleError as error:
            raise refusal(error) from error

    async def start(self, spec: Any, inputs: Any) -> RunData:
        """Start a run of a spec. Raises RunRefused."""
        try:
            return await self._once.run_adhoc(spec, inputs)
        except TreadleError as error:
            raise refusal(error) from error

    async def watch_run(
        self, run_id: str, *, after: int | None = None, types: Sequence[str] | None = None
    ) -> AsyncGenerator[RunUpdateData]:
        """Yield the updates of a run until it ends, over any number of connections. Raises RunRefused."""
        try:
            async with aclosing(self._patient.watch_run(run_id, after=after, types=types)) as updates:
                async for update in updates:
                    yield update
        except TreadleError as error:
            raise refusal(error) from error

    async def has_worker(self) -> bool | None:
        """Return whether a worker is alive that executes runs; None if the server does not say it."""
        try:
            workers = (await self._http.get(f"{self.address}/readyz", timeout=5)).json()["workers"]
        except (httpx2.TransportError, ValueError, LookupError, TypeError):
            return None
        return None if workers is None else workers > 0


def refusal(error: TreadleError) -> RunRefused:
    """Create the error of a command. The `detail` of a problem repeats its first fields, so it is left out."""
    if isinstance(error, ValidationProblemError):
        return RunRefused("\n".join([f"{error.title}:", *(f"  {one.field}: {one.message}" for one in error.errors)]))
    if isinstance(error, ServerUnavailable) and not error.may_be_executed:
        hint = "is `treadle up` running? Choose another one with --url, or another port with --port"
        return RunRefused(f"{error}: {hint}")
    if isinstance(error, AddressError):
        return RunRefused(f"{error}. Choose another port with --port, or another address with --url")
    return RunRefused(str(error))


def _base_of(address: str) -> str:
    """Return the address without a path of the API, with its scheme."""
    base = address if "://" in address else f"http://{address}"
    return base.rstrip("/").removesuffix("/graphql").rstrip("/")
