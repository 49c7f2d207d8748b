"""What can go wrong in a call to a model, as NodeFailures with a code each. LangChain's own classes first, then the status.

The client libraries try nothing again: attempts belong to the node's `retry`, which waits for `retryAfterS` of the details.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import structlog
from langchain_core import exceptions as known

from engine.chat_models.base import ChatModel
from engine.errors import NodeFailure
from engine.types import JSON
from engine.values.redaction import Redactor

log = structlog.get_logger(__name__)

EXCERPT = 500
_CONTEXT = re.compile(
    r"context[ _](length|window|size)|maximum context|prompt is too long|too many tokens", re.IGNORECASE
)
_FILTERED = re.compile(r"content_filter|content management policy|content_policy", re.IGNORECASE)
_QUOTA = "insufficient_quota"
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What the client libraries raise where an answer is not what they expect."""


def failure_of(fault: Exception, model: ChatModel) -> NodeFailure:
    """What a call to the model raised, told to people who can do something about it."""
    if isinstance(fault, NodeFailure):
        return fault
    status = getattr(fault, "status_code", None)
    said = _said(fault, model)
    code, told, retryable = _named(fault, status if isinstance(status, int) else None, said)
    details: dict[str, JSON] = {} if status is None else {"status": status}
    if (pause := retry_after(fault)) is not None:
        details["retryAfterS"] = pause
    if code == "MODEL_STREAM":
        log.info("model.broken_answer", model=model.name, fault=type(fault).__name__, said=said)
    return NodeFailure(code, f"the model {model.name!r} {told}"[:2000], retryable=retryable, details=details or None)


def _named(fault: Exception, status: int | None, said: str) -> tuple[str, str, bool]:
    """(code, what happened and what to do, whether another attempt may help)"""
    if isinstance(fault, known.ModelAuthenticationError | known.ModelPermissionDeniedError) or status in (401, 403):
        return "MODEL_AUTH", f"refuses the key that the catalog has for it: {said}", False
    if isinstance(fault, known.ModelRateLimitError) or status == 429:
        if _QUOTA in f"{said} {getattr(fault, 'code', '')}":
            return "MODEL_RATE_LIMIT", f"has no quota left: {said}", False
        return "MODEL_RATE_LIMIT", f"is called too often: {said}; give the node a `retry`", True
    if isinstance(fault, known.ModelTimeoutError | TimeoutError) or status == 408:
        return "MODEL_TIMEOUT", f"said nothing for too long; `timeout_s` in the catalog is the limit ({said})", True
    if isinstance(fault, known.ModelNotFoundError) or status == 404:
        return (
            "MODEL_UNKNOWN",
            f"is not known at its endpoint; look at `model` and `base_url` in the catalog: {said}",
            False,
        )
    if isinstance(fault, known.ContextOverflowError) or (status in (400, 413, 422) and _CONTEXT.search(said)):
        return "MODEL_CONTEXT", f"cannot take as many tokens; shorten the prompt or choose another model: {said}", False
    if _is_filter(fault, status, said):
        return "MODEL_FILTERED", f"answers nothing: its content filter stopped it ({said})", False
    if "LengthFinishReason" in type(fault).__name__:
        return (
            "MODEL_OUTPUT",
            "came to the limit of its tokens before its answer was whole: give it more `max_tokens`",
            False,
        )
    if isinstance(fault, known.ModelInvalidRequestError) or (status is not None and 300 <= status < 500):
        return "MODEL_REQUEST", f"refuses the request: {said}", False
    if isinstance(fault, known.ModelConnectionError):
        return _disconnected(fault, said)
    if isinstance(fault, known.ModelAPIError) or status is not None:
        return "MODEL_UNAVAILABLE", f"has trouble of its own ({status or 'no status'}): {said}", True
    return _unexpected(fault, said)


def _is_filter(fault: Exception, status: int | None, said: str) -> bool:
    if "ContentFilter" in type(fault).__name__:
        return True
    return status in (400, 422) and bool(_FILTERED.search(f"{said} {getattr(fault, 'code', '')}"))


def _disconnected(fault: Exception, said: str) -> tuple[str, str, bool]:
    causes = list(_causes(fault))
    why = next((str(cause) for cause in reversed(causes) if str(cause)), said)[:EXCERPT]
    if any(type(cause).__name__ in ("ConnectError", "ProxyError", "UnsupportedProtocol") for cause in causes):
        return "MODEL_UNAVAILABLE", f"cannot be reached: {why}", True
    return "MODEL_STREAM", f"broke off in the middle: {why}", True


def _unexpected(fault: Exception, said: str) -> tuple[str, str, bool]:
    if isinstance(fault, _BROKEN):
        return "MODEL_STREAM", f"answered with something that is no answer ({type(fault).__name__}: {said})", True
    return "MODEL_STREAM", f"failed while it answered: {type(fault).__name__}: {said}", True


def _causes(fault: BaseException) -> Any:
    cause: BaseException | None = fault
    for _ in range(8):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _said(fault: Exception, model: ChatModel) -> str:
    """The provider's own words, on one line, without the key."""
    body: Any = getattr(fault, "body", None)
    if isinstance(body, dict) and isinstance(inner := body.get("error", body), dict):
        body = inner.get("message")
    said = body if isinstance(body, str) and body else str(fault)
    said = " ".join(said.split())
    if model.hidden:
        said = Redactor([model.hidden]).redact_text(said)
    return said[:EXCERPT] or type(fault).__name__


def retry_after(fault: Exception) -> float | None:
    """Seconds until the provider wants to be asked again, if it says so."""
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
    moment = parsedate_to_datetime(value)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
