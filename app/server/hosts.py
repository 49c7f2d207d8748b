"""ASGI middleware that refuses requests with a `Host` that is not the server's.

It stops DNS rebinding: a page of another site whose name resolves to this machine would otherwise
have access like a page of the server.
"""

from collections.abc import Iterable

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.server.responses import problem_response
from persistence.problems import ProblemCode

log = structlog.get_logger(__name__)

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class AllowedHosts:
    """Passes requests on whose `Host` is local, the address that the server binds, or allowed."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        """`hosts` are names without a port; `*.example.com` allows all names below a domain, `*` allows all."""
        self._app = app
        self._hosts = {host.lower() for host in (*LOCAL_HOSTS, *hosts)}
        self._domains = tuple(host[1:] for host in self._hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_allowed(host := Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        log.warning("server.host_refused", host=host[:100], setting="TREADLE_ALLOWED_HOSTS")
        message = (
            f"The server does not answer to the host {host[:100]!r}. To allow it, add its name to the setting "
            "TREADLE_ALLOWED_HOSTS."
        )
        await problem_response(400, ProblemCode.FORBIDDEN, message)(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        name = host_name(host)
        return "*" in self._hosts or name in self._hosts or name.endswith(self._domains)


def host_name(host: str) -> str:
    """Return the name in a `Host` header, without the port and the brackets of IPv6 addresses."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
