"""Builds the parts of a request from rendered values, and checks them before anything is sent.

Pure. Every function raises NodeFailure(CONFIG) for a value that cannot be sent.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

import httpx2
import orjson

from engine.errors import NodeFailure
from engine.types import JSON
from engine.values.kinds import kind

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MANAGED_HEADERS = frozenset(["connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"])
PLAIN_TEXT = "text/plain; charset=utf-8"
"""The media type of a raw body that sets none."""
MAX_URL = 16 * 1024
"""Characters of an address with its query."""


def address(url: JSON, query: dict[str, JSON]) -> httpx2.URL:
    """Return the address with its query and without fragment."""
    if not isinstance(url, str):
        raise _config("url", f"must give an address, not {kind(url)}")
    try:
        parsed = httpx2.URL(url.strip())
    except httpx2.InvalidURL as error:
        raise _config("url", "gives no valid address") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _config("url", "must give an address that begins with http:// or https://")
    if parsed.userinfo:
        raise _config("url", "contains a name or password: set them in `auth`")
    values = {name: _values(value, f"query.{name}") for name, value in query.items()}
    full = with_parameters(parsed, {name: texts for name, texts in values.items() if texts})
    if len(str(full)) > MAX_URL:
        raise _config("url", f"gives an address of more than {MAX_URL} characters")
    return full.copy_with(fragment=None)


def with_parameters(
    url: httpx2.URL, parameters: Mapping[str, Sequence[str]], replaced: str | None = None
) -> httpx2.URL:
    """Append parameters to the query of an address, and leave what it has exactly as it is.

    Targets may read `+`, `%20`, `;`, a parameter without `=` or the order in their own way, and
    signatures cover the text of the query. So the query is never parsed and written again.

    Args:
        url: The address.
        parameters: The values by name. A name that the address has already is sent again.
        replaced: The name of parameters to remove from the address first.
    """
    parts = url.query.decode("ascii").split("&") if url.query else []
    if replaced is not None:
        parts = [part for part in parts if unquote_plus(part.partition("=")[0]) != replaced]
    if parameters:
        parts.append(str(httpx2.QueryParams({name: list(values) for name, values in parameters.items()})))
    elif replaced is None:
        return url
    return url.copy_with(query="&".join(parts).encode("ascii"))


def headers(values: dict[str, JSON], auth: dict[str, JSON] | None) -> httpx2.Headers:
    """Return the headers, with that of the sign-in."""
    lines = {
        name.lower(): _header(name, value, f"headers.{name}") for name, value in values.items() if value is not None
    }
    if auth:
        name, value = _auth_header(auth)
        lines[name.lower()] = _header(name, value, "auth")
    return httpx2.Headers([(name.encode(), value.encode()) for name, value in lines.items()])


def _auth_header(auth: dict[str, JSON]) -> tuple[str, str]:
    if auth["type"] == "bearer":
        return "Authorization", f"Bearer {_line(auth['token'], 'auth.token')}"
    if auth["type"] == "basic":
        pair = f"{_line(auth['username'], 'auth.username')}:{_line(auth['password'], 'auth.password')}"
        return "Authorization", "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return str(auth["name"]), _line(auth["value"], "auth.value")


def _header(name: str, value: JSON, where: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise _config(where, "is no valid header name")
    if name.lower() in _MANAGED_HEADERS:
        raise _config(where, "is set by Treadle itself")
    return _line(value, where)


def _line(value: JSON, where: str) -> str:
    text = _text(value, where)
    if _CONTROL.search(text):
        raise _config(where, "contains a line break or another control character")
    return text.strip()


def body(config: dict[str, Any] | None) -> tuple[dict[str, Any], str | None]:
    """Return the body as arguments of `build_request`, and its media type if httpx2 sets none."""
    if config is None:
        return {}, None
    content = config["content"]
    if config["type"] == "json":
        return {"content": orjson.dumps(content)}, "application/json"
    if config["type"] == "form":
        return {"data": {name: _values(value, f"body.content.{name}") for name, value in content.items()}}, None
    if config["type"] == "raw" and config["encoding"] == "text" and isinstance(content, dict | list):
        # The text is one expression that gives JSON.
        return {"content": orjson.dumps(content)}, _json_media(config["media"])
    if config["type"] == "raw":
        return {"content": _bytes(content, config["encoding"], "body.content")}, _line(config["media"], "body.media")
    return {"files": [_part(part, f"body.content[{index}]") for index, part in enumerate(content)]}, None


def _json_media(media: JSON) -> str:
    return "application/json" if media == PLAIN_TEXT else _line(media, "body.media")


def _part(part: dict[str, Any], where: str) -> tuple[str, tuple[Any, ...]]:
    filename = None if part["filename"] is None else _line(part["filename"], f"{where}.filename")
    content = _bytes(part["content"], part["encoding"], f"{where}.content")
    media = () if part["media"] is None else (_line(part["media"], f"{where}.media"),)
    return part["name"], (filename, content, *media)


def _bytes(content: JSON, encoding: str, where: str) -> bytes:
    if encoding == "text":
        return _text(content, where).encode()
    try:
        return base64.b64decode(_text(content, where), validate=True)
    except binascii.Error as error:
        raise _config(where, "is no base64") from error


def _values(value: JSON, where: str) -> list[str]:
    """Return one text for each time that the name is sent; none for null."""
    values = value if isinstance(value, list) else [value]
    return [_text(item, where) for item in values if item is not None]


def _text(value: JSON, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise _config(where, f"must give text or a number, not {kind(value)}")


def _config(where: str, problem: str) -> NodeFailure:
    return NodeFailure("CONFIG", f"`{where}` {problem}")
