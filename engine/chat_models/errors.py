"""Maps the exceptions of a model call to NodeFailures, each with a code and a hint for the author.

LangChain's exception classes are checked first, then the HTTP status. The client libraries do not
retry: the `retry` of the node does, and it waits for `retryAfterS` of the details.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import structlog
from langchain_core import exceptions as known

from engine.chat_models.base import ChatModel
from engine.chat_models.http_client import NoAnswer, RefusedResponse
from engine.connection_faults import connection_fault
from engine.errors import RETRY_AFTER, NodeFailure
from engine.types import JSON
from engine.values.redaction import Redactor

log = structlog.get_logger(__name__)

EXCERPT = 500
"""Characters of a provider's message."""
_CONTEXT = re.compile(
    r"context[ _](length|window|size)|maximum context|prompt is too long|too many tokens", re.IGNORECASE
)
_FILTERED = re.compile(r"content_filter|content management policy|content_policy", re.IGNORECASE)
_QUOTA = "insufficient_quota"
_STATUSES = {
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "content_filter": 400,
}
"""The statuses of error codes that an endpoint sends in an answer of status 200."""
_NO_CHUNKS = "No generation chunks were returned"
"""LangChain's message for a stream without any event."""
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""Exceptions of the client libraries for a response that they cannot parse."""


class EndpointError(Exception):
    """An endpoint reports an error inside an answer. `body` is the error as it sent it."""

    def __init__(self, body: JSON) -> None:
        super().__init__("the endpoint reports an error")
        self.body = body
        self.code = body.get("code") if isinstance(body, dict) else None


def failure_of(fault: Exception, model: ChatModel) -> NodeFailure:
    """Return the failure for an exception of a model call; its message says what can be done."""
    if isinstance(fault, NodeFailure):
        return fault
    status, reason = _status(fault), _provider_message(fault, model)
    code, message, retryable = _classify(fault, status, reason)
    details: dict[str, JSON] = {} if status is None else {"status": status}
    if (pause := retry_after(fault)) is not None:
        details[RETRY_AFTER] = pause
    if code == "MODEL_STREAM":
        log.info("model.broken_answer", model=model.name, fault=type(fault).__name__, reason=reason)
    return NodeFailure(code, f"the model {model.name!r} {message}"[:2000], retryable=retryable, details=details or None)


def _status(fault: Exception) -> int | None:
    """Return the status of a response, or that of the error code in an answer of status 200."""
    status = getattr(fault, "status_code", None)
    if isinstance(status, int):
        return status
    code = str(getattr(fault, "code", None))
    number = int(code) if code.isdecimal() and len(code) == 3 else _STATUSES.get(code)
    return number if number is not None and number >= 400 else None


def _classify(fault: Exception, status: int | None, reason: str) -> tuple[str, str, bool]:
    """Return (code, message with the cause and the remedy, whether another attempt may help)."""
    if isinstance(fault, known.ModelAuthenticationError | known.ModelPermissionDeniedError) or status in (401, 403):
        return "MODEL_AUTH", f"refuses the key that the catalog has for it: {reason}", False
    if isinstance(fault, known.ModelRateLimitError) or status == 429:
        if _QUOTA in f"{reason} {getattr(fault, 'code', '')}":
            return "MODEL_RATE_LIMIT", f"has no quota left: {reason}", False
        return "MODEL_RATE_LIMIT", f"is called too often: {reason}; set `retry` on the node", True
    if isinstance(fault, known.ModelTimeoutError | TimeoutError) or status == 408:
        return "MODEL_TIMEOUT", f"sent nothing for too long; the limit is `timeout_s` in the catalog ({reason})", True
    if isinstance(fault, known.ModelNotFoundError) or status == 404:
        return (
            "MODEL_UNKNOWN",
            f"is not known at its endpoint; check `model` and `base_url` in the catalog: {reason}",
            False,
        )
    if isinstance(fault, known.ContextOverflowError) or (status in (400, 413, 422) and _CONTEXT.search(reason)):
        return (
            "MODEL_CONTEXT",
            f"cannot process so many tokens; shorten the prompt or choose another model: {reason}",
            False,
        )
    if _is_filter(fault, status, reason):
        return "MODEL_FILTERED", f"did not answer: its content filter stopped it ({reason})", False
    if "LengthFinishReason" in type(fault).__name__:
        return (
            "MODEL_OUTPUT",
            "reached its token limit before the answer was complete: raise `max_tokens`",
            False,
        )
    if isinstance(fault, known.ModelInvalidRequestError) or (status is not None and 300 <= status < 500):
        return "MODEL_REQUEST", f"refuses the request: {reason}", False
    if isinstance(fault, known.ModelConnectionError):
        return _disconnected(fault, reason)
    if isinstance(fault, known.ModelAPIError) or status is not None:
        return "MODEL_UNAVAILABLE", f"reports an internal error ({status or 'no status'}): {reason}", True
    return _unexpected(fault, reason)


def _is_filter(fault: Exception, status: int | None, reason: str) -> bool:
    if "ContentFilter" in type(fault).__name__:
        return True
    return status in (400, 422) and bool(_FILTERED.search(f"{reason} {getattr(fault, 'code', '')}"))


def _disconnected(fault: Exception, reason: str) -> tuple[str, str, bool]:
    causes = list(_causes(fault))
    refused = next((str(cause) for cause in causes if isinstance(cause, RefusedResponse)), None)
    own_text = next((text for cause in reversed(causes) if (text := connection_fault(cause))), None)
    cause_text = refused or own_text or reason
    if any(type(cause).__name__ in ("ConnectError", "ProxyError", "UnsupportedProtocol") for cause in causes):
        return "MODEL_UNAVAILABLE", f"cannot be reached: {cause_text}", True
    return "MODEL_STREAM", f"lost the connection in the middle of its answer: {cause_text}", True


def _unexpected(fault: Exception, reason: str) -> tuple[str, str, bool]:
    if isinstance(fault, NoAnswer):
        return "MODEL_STREAM", f"sent a response that cannot be parsed: it is no answer of a model: {reason}", True
    if _NO_CHUNKS in str(fault):
        return "MODEL_STREAM", "sent a response that cannot be parsed: it is empty", True
    if isinstance(fault, _BROKEN):
        return "MODEL_STREAM", "sent a response that cannot be parsed: it is not in the form of the provider", True
    if getattr(fault, "body", None):
        return "MODEL_STREAM", f"reports an error: {reason}", True
    return "MODEL_STREAM", f"failed while it answered: {reason}", True


def _causes(fault: BaseException) -> Any:
    cause: BaseException | None = fault
    for _ in range(8):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _provider_message(fault: Exception, model: ChatModel) -> str:
    """Return the message of the provider on one line, with the key masked."""
    text = " ".join((_message_in(getattr(fault, "body", None)) or _own_reason(fault)).split())
    if model.hidden:
        text = Redactor([model.hidden]).redact_text(text)
    return text[:EXCERPT] or type(fault).__name__


def _own_reason(fault: Exception) -> str:
    """Return the reason where the provider gives none. The words of a library are in the log only."""
    if isinstance(fault, NoAnswer | RefusedResponse) or _status(fault) is not None:
        return str(fault)  # what the endpoint has answered, or our own message
    if (reason := connection_fault(fault)) is not None:
        return reason
    log.info("model.fault", fault=type(fault).__name__, message=str(fault)[:EXCERPT])
    return "the endpoint gives no reason; the log of the worker has more"


def _message_in(body: Any) -> str | None:
    """Return the message in the body of an error, or the body as JSON if none is found."""
    inner = body.get("error") or body if isinstance(body, dict) else body
    if isinstance(inner, dict):
        message = next((inner[name] for name in ("message", "detail") if inner.get(name)), inner)
        inner = message if isinstance(message, str) else orjson.dumps(message, default=str).decode()
    return inner if isinstance(inner, str) and inner else None


def retry_after(fault: Exception) -> float | None:
    """Return the seconds of `retry-after-ms` or `Retry-After` (RFC 9110), or None."""
    headers: Any = getattr(getattr(fault, "response", None), "headers", None) or {}
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(float(milliseconds) / 1000, 0.0)
        if (value := headers.get("retry-after")) is None:
            return None
        return _seconds(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds(value: str) -> float | None:
    if value.strip().isdigit():
        return float(value)
    time = parsedate_to_datetime(value)
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return max((time - datetime.now(UTC)).total_seconds(), 0.0)
