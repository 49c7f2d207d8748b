"""What a body means: JSON, text or bytes as base64. Pure."""

import base64
import codecs
import re
from typing import Literal

import orjson

from engine.errors import NodeFailure
from engine.nodes.http.exchange import HttpAnswer, shown
from engine.types import JSON

Kind = Literal["auto", "json", "text", "base64"]
_TEXT = ("application/xml", "application/javascript", "application/x-www-form-urlencoded", "application/yaml")


# Charsets of text. Python has codecs of other kinds, and a target must not choose among those.
_CHARSET = re.compile(r"(utf|ascii|iso|cp\d|koi8|mac|big5|gb|euc|shift|johab|hz|tis|kz|ptcp)[-_a-z0-9]*")


def decoded(answer: HttpAnswer, kind: Kind) -> JSON:
    """Raises NodeFailure(HTTP_RESPONSE). No body at all is null, whatever it was expected to be."""
    if not answer.content:
        return None
    kind = _guess(answer) if kind == "auto" else kind
    if kind == "json":
        return _json(answer)
    if kind == "text":
        return _text(answer)
    return base64.b64encode(answer.content).decode("ascii")


def _guess(answer: HttpAnswer) -> Kind:
    media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json" or media.endswith("+json"):
        return "json"
    return "text" if media.startswith("text/") or media.endswith("+xml") or media in _TEXT else "base64"


def _json(answer: HttpAnswer) -> JSON:
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError as wrong:
        begins = answer.content[:80].decode("utf-8", "replace")
        raise _unreadable(answer, f"is no JSON ({wrong}); it begins with {begins!r}") from wrong


def _text(answer: HttpAnswer) -> str:
    charset = (answer.charset or "utf-8")[:40]
    try:
        if _CHARSET.fullmatch(codecs.lookup(charset).name) is None:
            raise LookupError(charset)
        return answer.content.decode(charset)
    except LookupError as unknown:
        raise _unreadable(answer, f"has a charset that is not known ({charset}); take it as `base64`") from unknown
    except ValueError as wrong:
        where = f" at byte {wrong.start}" if isinstance(wrong, UnicodeDecodeError) else ""
        raise _unreadable(answer, f"is no {charset} text{where}; take it as `base64`") from wrong


def _unreadable(answer: HttpAnswer, what: str) -> NodeFailure:
    return NodeFailure("HTTP_RESPONSE", f"the body that {shown(answer.method, answer.url)} answered with {what}")
