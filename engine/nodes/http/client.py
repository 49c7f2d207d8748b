"""An httpx2.AsyncClient that connects only to allowed addresses: the resource `http`.

It resolves a name once and connects to one of the addresses that it has checked, so DNS rebinding
has no effect. Redirects go through the same check. A client belongs to one call and is closed
with it: connections and cookies are never shared between runs.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from functools import cached_property

import httpcore2
import httpx2

from engine.nodes.http.addresses import Address, Allowed, parse_address
from engine.nodes.http.decompression import ACCEPTED

CONNECT_S = 10.0
"""Seconds to resolve a name and to connect."""


class Blocked(Exception):
    """The target `host` is not on the public internet and is not allowed.

    The text of the exception does not name it: a secret may be part of the name.
    """

    def __init__(self, host: str) -> None:
        super().__init__("the target is not on the public internet")
        self.host = host


class _GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """Opens connections only to allowed addresses."""

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
        remaining = None if timeout is None else max(timeout - (loop.time() - began), 0.001)
        for address in addresses[:-1]:
            try:
                # Each address gets a share, so that one without an answer does not use it all.
                share = None if remaining is None else remaining / len(addresses)
                return await self._network.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port, remaining, local_address, socket_options)

    async def _resolve(self, host: str, port: int, timeout: float | None) -> list[Address]:
        """Resolve a name to its allowed addresses. Raises Blocked if it has none."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as timed_out:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from timed_out
        except (OSError, UnicodeError) as fault:
            raise httpcore2.ConnectError("the name cannot be resolved") from fault
        addresses = [parse_address(str(entry[4][0])) for entry in entries]
        usable = [address for address in dict.fromkeys(addresses) if self._allowed.may_connect(host, address)]
        if not usable:
            # The message does not contain the address: authors must not learn the internal network.
            raise Blocked(host)
        return usable

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise Blocked("a Unix socket")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _GuardedTransport(httpx2.AsyncHTTPTransport):
    """A transport on _GuardedNetwork that ignores the proxies of the environment."""

    def __init__(self, allowed: Allowed, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx2 has no parameter for the network backend; its connection pool has one.
        self._pool = httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=_GuardedNetwork(allowed))


class GuardedHttp:
    """Makes guarded clients. The TLS context is shared, since it is slow to create."""

    def __init__(self, allowed: Allowed = Allowed()) -> None:
        self.allowed = allowed

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return httpx2.create_ssl_context()

    def client(self, *, connect_s: float = CONNECT_S) -> httpx2.AsyncClient:
        """Make a client, to be closed with `async with`.

        It does not follow redirects, and limits only the time to connect: the caller limits the
        rest.
        """
        return httpx2.AsyncClient(
            transport=_GuardedTransport(self.allowed, self._context),
            headers={"accept-encoding": ACCEPTED},
            timeout=httpx2.Timeout(None, connect=connect_s),
            trust_env=False,
        )
