"""Requests and responses of GraphQL over HTTP and Server-Sent Events, without input and output.

`AsyncClient` and `Client` send them. Each failure becomes a TreadleError here.
"""

import json
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from treadle.client.errors import AddressError, OperationError, ServerUnavailable, TreadleError
from treadle.client.operations import Operation

JSON_TYPES = "application/graphql-response+json, application/json"
EVENT_STREAM = "text/event-stream"
QUIET_S = 45.0
"""Seconds without a byte after which a stream is lost. The server sends a comment every 15 s."""
MAX_EVENT = MAX_BODY = 32 * 1024 * 1024
"""Bytes of one event, and of one body; a response of the server has at most 16 MiB."""
RETRYABLE_STATUSES = (408, 425, 429)
"""Statuses below 500 that ask the client to try again later."""
TRUST = "if it is right, set SSL_CERT_FILE to a file with the certificate of its authority"
CONNECTION_ERRORS = (httpx2.TransportError, httpx2.InvalidURL)
"""What an HTTP client raises if a connection cannot be made, or is lost."""
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
Fault = TypeVar("Fault", OperationError, ServerUnavailable)
_NO_TRUSTED_CAS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_options(url: str) -> dict[str, Any]:
    """Return the options of an HTTP client. For plain http it loads no certificates, which takes a while."""
    return {"verify": _NO_TRUSTED_CAS} if url.startswith("http://") else {}


def body_of(operation: Operation[Any]) -> dict[str, Any]:
    """Return the body of the request."""
    return {"query": operation.text, "variables": operation.variables}


def headers_of(token: str | None, accept: str) -> dict[str, str]:
    """Return the headers of the request."""
    headers = {"Accept": accept}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def timeout_of(operation: Operation[Any], timeout_s: float) -> httpx2.Timeout:
    """Return the time limits of a request. A mutation that waits for a status has its own time in addition."""
    return httpx2.Timeout(timeout_s, read=timeout_s + operation.wait_s)


def stream_timeout(timeout_s: float) -> httpx2.Timeout:
    """Return the time limits of a stream."""
    return httpx2.Timeout(timeout_s, read=QUIET_S)


class Body:
    """The body of a response, which is read piece by piece up to a limit."""

    def __init__(self, response: httpx2.Response, url: str) -> None:
        """Begin to read. Raises AddressError for a redirect, and for a body of several codings.

        A redirect may lead to another server, which would get the token. One piece of a body of several codings
        may decompress to any size.
        """
        self._url, self._pieces, self._size = url, list[bytes](), 0
        if response.has_redirect_location:
            target = response.headers["location"]
            raise AddressError(f"{url} redirects to {target}: use that address if it is the right server")
        if "," in response.headers.get("content-encoding", ""):
            raise AddressError(f"the response of {url} is compressed several times")

    def add(self, piece: bytes) -> None:
        """Add a piece. Raises AddressError above the limit."""
        self._size += len(piece)
        if self._size > MAX_BODY:
            raise _too_large("the response", self._url)
        self._pieces.append(piece)

    def content(self) -> bytes:
        """Return all pieces."""
        return b"".join(self._pieces)


def data_of(response: httpx2.Response, content: bytes, url: str) -> dict[str, Any]:
    """Return the `data` of a response with this body. Raises TreadleError."""
    try:
        body = json.loads(content)
        errors, data = body.get("errors"), body.get("data")
    except (ValueError, AttributeError) as error:
        raise _not_graphql(response, url) from error
    if errors:
        raise _with_header(OperationError(errors, response.status_code), response)
    if not isinstance(data, dict):
        raise _not_graphql(response, url)
    return data


def refusal_of(response: httpx2.Response, content: bytes, url: str) -> TreadleError:
    """Return the error of a response with this body that should have been a stream."""
    try:
        data_of(response, content, url)
    except TreadleError as error:
        return error
    return _not_graphql(response, url)


def is_stream(response: httpx2.Response) -> bool:
    """Whether the response is an event stream."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    return response.status_code == 200 and kind.strip().lower() == EVENT_STREAM


def data_of_event(text: str) -> dict[str, Any]:
    """Return the `data` of an event `next`. Raises OperationError."""
    result = json.loads(text)
    if result.get("errors"):
        raise OperationError(result["errors"])
    data: dict[str, Any] = result["data"]
    return data


def connection_error(error: Exception, url: str) -> TreadleError:
    """Create the error of a connection that cannot be made, or is lost."""
    reason = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return AddressError(f"the certificate of {url} is not trusted ({_tls_reason(reason)}): {TRUST}")
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return AddressError(f"{url} is not a valid address: write https://host/graphql or http://host:port/graphql")
    if isinstance(error, httpx2.SSEError):
        return _too_large("an event", url)
    if isinstance(error, _NOT_SENT):
        return ServerUnavailable(f"no server responds at {url} ({reason})", may_be_executed=False)
    return ServerUnavailable(f"the connection to {url} was lost ({reason})")


def stream_end(url: str) -> ServerUnavailable:
    """Create the error of a stream that has ended without its event `complete`."""
    return ServerUnavailable(f"the stream of {url} has ended early")


def _too_large(what: str, url: str) -> AddressError:
    return AddressError(f"{what} of {url} is larger than {MAX_BODY // 1024 // 1024} MiB")


def _tls_reason(text: str) -> str:
    """Return OpenSSL's reason, such as `self-signed certificate`."""
    return text.partition("certificate verify failed: ")[2].partition(" (_ssl.c")[0] or text


def _not_graphql(response: httpx2.Response, url: str) -> TreadleError:
    status = response.status_code
    if status >= 500 or status in RETRYABLE_STATUSES:
        return _with_header(ServerUnavailable(f"{url} responds with HTTP {status}"), response)
    return AddressError(
        f"the server at {url} is not Treadle: it responds with HTTP {status}, and not with a GraphQL result"
    )


def _with_header(error: Fault, response: httpx2.Response) -> Fault:
    """Add the time of Retry-After (RFC 9110, section 10.2.3) to an error that has none."""
    value = response.headers.get("retry-after")
    if error.retry_after_s is None and value is not None:
        error.retry_after_s = _seconds(value)
    return error


def _seconds(value: str) -> float | None:
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
