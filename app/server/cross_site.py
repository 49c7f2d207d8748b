"""Refuses requests that a page of another site sends through a user's browser, unless it is allowed.

A server on a private machine trusts its callers, so any page that its user opens could run operations.
Browsers say from where a request comes: by Fetch Metadata, or in old ones by `Origin` (RFC 6454).
Other clients send neither. Pages of allowed origins get the headers of CORS.
"""

from collections.abc import Collection, Mapping

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp
from strawberry.http.websocket_origin import is_same_origin

from app.server.responses import problem_response
from persistence.problems import ProblemCode

log = structlog.get_logger(__name__)

SETTING = "TREADLE_ALLOWED_ORIGINS"
PREFLIGHT_MAX_AGE_S = 600
"""Seconds for which a browser remembers the answer to a preflight request."""


class AllowedOrigins:
    """The origins whose pages may use the server, in addition to its own."""

    def __init__(self, origins: Collection[str] = ()) -> None:
        self._origins = frozenset(origins)

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Return why a request or a handshake is refused; None if it is not.

        A development server that passes requests on may change `Host`, so `Sec-Fetch-Site` comes before it.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins:
            return None
        if site is not None and site not in ("same-origin", "none"):
            return self._reported(f"`Sec-Fetch-Site` is {site[:20]!r}", origin)
        if site is not None or origin is None or is_same_origin(origin, headers.get("host")):
            return None
        return self._reported(f"`Origin` is {origin[:100]!r}, and `Host` is another", origin)

    @staticmethod
    def _reported(reason: str, origin: str | None) -> str:
        log.warning("server.cross_site_refused", reason=reason, origin=(origin or "")[:100], setting=SETTING)
        return (
            f"Requests from pages of other sites are refused: {reason}. To allow the pages of an origin, add it to the "
            f"setting {SETTING}. If this is a page of the server behind a proxy, the proxy must pass `Host` on."
        )


class Cors(CORSMiddleware):
    """Cross-origin resource sharing with allowed origins, including credentials."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=frozenset(origins),
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            allow_credentials=True,
            allow_private_network=True,
            expose_headers=("ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id"),
            max_age=PREFLIGHT_MAX_AGE_S,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request. A refusal says which setting allows the origin."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        origin, method = request_headers["origin"], request_headers["access-control-request-method"]
        message = f"The origin {origin[:100]!r} may not send {method[:20]} requests: see the setting {SETTING}."
        return problem_response(403, ProblemCode.FORBIDDEN, message, {"Vary": "Origin"})
