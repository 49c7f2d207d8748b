"""The guarded client: an httpx2.AsyncClient that resolves a name once, and connects to one of the addresses it has looked at.

Every connection goes through here, redirects included, so a name that changes its address in between (rebinding) changes
nothing. A client belongs to one call and is closed with it: connections and cookies are never shared between runs.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from functools import cached_property

import httpcore2
import httpx2

from engine.nodes.http.addresses import Address, Allowed, parse_address

Resolved = list[Address]
CONNECT_S = 10.0


class Blocked(Exception):
    """The target is not on the public internet, and the host has not opened it."""


class _GuardedNetwork(httpcore2.AsyncNetworkBackend):
    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        began = loop.time()
        addresses = await self._resolve(host, port, timeout)
        left = None if timeout is None else max(timeout - (loop.time() - began), 0.001)
        for address in addresses[:-1]:
            try:
                # Each gets its share of the time: one that does not answer must not take it all.
                share = None if left is None else left / len(addresses)
                return await self._network.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port, left, local_address, socket_options)

    async def _resolve(self, host: str, port: int, timeout: float | None) -> Resolved:
        """The addresses that may be connected to. Raises Blocked if there is none among those found."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as late:
            raise httpcore2.ConnectTimeout(f"the name {host} was not resolved in time") from late
        except (OSError, UnicodeError) as fault:
            raise httpcore2.ConnectError(f"the name {host} cannot be resolved: {fault}") from fault
        addresses = [parse_address(str(entry[4][0])) for entry in found]
        usable = [address for address in dict.fromkeys(addresses) if self._allowed.may_connect(host, address)]
        if not usable:
            # The address itself stays unsaid: who writes workflows need not learn what names mean inside.
            raise Blocked(f"{host} is not on the public internet")
        return usable

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise Blocked("a socket file is not on the public internet")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _GuardedTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, allowed: Allowed, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx2 has no parameter for the network; its pool has.
        self._pool = httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=_GuardedNetwork(allowed))


class GuardedHttp:
    """The resource `http`: makes clients for addresses that somebody else wrote."""

    def __init__(self, allowed: Allowed = Allowed()) -> None:
        self._allowed = allowed

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return httpx2.create_ssl_context()

    def client(self, *, connect_s: float = CONNECT_S) -> httpx2.AsyncClient:
        """To be closed by `async with`. Follows no redirect by itself; the caller bounds the whole time."""
        return httpx2.AsyncClient(
            transport=_GuardedTransport(self._allowed, self._context),
            timeout=httpx2.Timeout(None, connect=connect_s),
            trust_env=False,
        )
