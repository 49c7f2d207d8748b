"""Decodes the body of a response: JSON, text, or bytes as base64. Pure."""

import base64
import codecs
import re
from typing import Literal

from engine.errors import NodeFailure
from engine.nodes.http.exchange import HttpResponse
from engine.types import JSON
from engine.values.json_text import NotJson, parse_json

Kind = Literal["auto", "json", "text", "base64"]
_TEXT = ("application/xml", "application/javascript", "application/x-www-form-urlencoded", "application/yaml")

# Charsets of text. Python also has codecs that are no charsets, which a target must not select.
_CHARSET = re.compile(r"(utf|ascii|iso|cp\d|koi8|mac|big5|gb|euc|shift|johab|hz|tis|kz|ptcp)[-_a-z0-9]*")


def decode(response: HttpResponse, kind: Kind) -> JSON:
    """Decode the body. An empty body is None for every kind. Raises NodeFailure(HTTP_RESPONSE)."""
    if not response.content:
        return None
    kind = _guess(response) if kind == "auto" else kind
    if kind == "json":
        return _json(response)
    if kind == "text":
        return _text(response)
    return base64.b64encode(response.content).decode("ascii")


def _guess(response: HttpResponse) -> Kind:
    """Choose the kind by the media type."""
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json" or media.endswith("+json"):
        return "json"
    return "text" if media.startswith("text/") or media.endswith("+xml") or media in _TEXT else "base64"


def _json(response: HttpResponse) -> JSON:
    try:
        return parse_json(response.content)
    except NotJson as error:
        start = response.content[:80].decode("utf-8", "replace")
        raise _unreadable(response, f"{error}; it begins with {start!r}") from error


def _text(response: HttpResponse) -> str:
    charset = (response.charset or "utf-8")[:40]
    try:
        if _CHARSET.fullmatch(codecs.lookup(charset).name) is None:
            raise LookupError(charset)
        return response.content.decode(charset)
    except LookupError as unknown:
        raise _unreadable(response, f"has an unknown charset ({charset}): use the kind `base64`") from unknown
    except ValueError as error:
        where = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise _unreadable(response, f"is no {charset} text{where}: use the kind `base64`") from error


def _unreadable(response: HttpResponse, problem: str) -> NodeFailure:
    return NodeFailure("HTTP_RESPONSE", f"the body of {response.label} {problem}")
