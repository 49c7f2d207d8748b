"""Real OpenID Connect issuers on loopback, and a browser that signs in at them by their forms."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import httpx
import orjson

from tests.clients.installed import FOLDER, node_with_packages

MAX_STEPS = 12
"""More redirects and forms than a sign-in has."""


@asynccontextmanager
async def serving_issuers(home: str) -> AsyncIterator[dict[str, str]]:
    """Yield the addresses of issuers, by where they write the roles: `inIdToken`, `inUserInfo`."""
    node = await asyncio.to_thread(node_with_packages)
    process = await asyncio.create_subprocess_exec(
        node.program, FOLDER / "oidc_issuers.mjs", home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=FOLDER
    )
    try:
        assert process.stdout is not None
        yield orjson.loads(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


class Browser:
    """A browser with cookies of its own. `addresses` are those that it has opened."""

    def __init__(self, home: str) -> None:
        self.home, self.addresses = home, list[str]()
        # An issuer on loopback has another port, so browsers send it no cookies of the server by SameSite=Lax only.
        self.client = httpx.AsyncClient(base_url=home, trust_env=False)

    async def open(self, address: str, *, stop_before: str = "\0") -> httpx.Response:
        """Open an address and follow its redirects, except to an address that begins with `stop_before`."""
        response = await self._get(urljoin(self.home, address))
        for _ in range(MAX_STEPS):
            if not response.is_redirect:
                break
            address = urljoin(str(response.url), response.headers["location"])
            if address.startswith(stop_before):
                self.addresses.append(address)
                break
            response = await self._get(address)
        return response

    async def sign_in(self, login: str, return_to: str = "/auth/session", stop_before: str = "\0") -> httpx.Response:
        """Sign in at the issuer, and return the page to which it leads."""
        response = await self.open(f"/auth/sign-in?returnTo={return_to}", stop_before=stop_before)
        for form in ({"prompt": "login", "login": login, "password": "x"}, {"prompt": "consent"}):
            if "/interaction/" not in str(response.url):
                break
            sent = await self.client.post(str(response.url), data=form)
            response = await self.open(urljoin(str(response.url), sent.headers["location"]), stop_before=stop_before)
        return response

    async def _get(self, address: str) -> httpx.Response:
        self.addresses.append(address)
        return await self.client.get(address, headers={"Sec-Fetch-Site": "same-origin"})

    @property
    def cookie(self) -> str:
        """The value of the session cookie."""
        return str(self.client.cookies["treadle_session"])
