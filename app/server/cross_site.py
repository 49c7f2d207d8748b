"""Refuses requests that a page of another site sends through a user's browser.

A server on a private machine trusts its callers, so any page that its user opens could run operations.
Browsers say from where a request comes: by Fetch Metadata, or in old ones by `Origin` (RFC 6454).
Other clients send neither.
"""

from starlette.requests import Request


def cross_site_reason(request: Request) -> str | None:
    """Return why a request comes from another site; None if it does not.

    A development server that passes requests on may change `Host`, so `Sec-Fetch-Site` comes first.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return None if site in ("same-origin", "none") else f"`Sec-Fetch-Site` is {site[:20]!r}"
    origin = request.headers.get("origin")
    if origin is None or origin.partition("://")[2] == request.headers.get("host"):
        return None
    return f"`Origin` is {origin[:100]!r}"
