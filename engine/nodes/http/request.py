"""Makes the request out of rendered values: what a template gave is checked here, before anything leaves. Pure."""

import base64
import binascii
import re
from typing import Any

import httpx2
import orjson

from engine.errors import NodeFailure
from engine.types import JSON

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset(["connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"])
MAX_URL = 16 * 1024


def address(url: JSON, query: dict[str, JSON]) -> httpx2.URL:
    """Raises NodeFailure(CONFIG), as does everything here."""
    if not isinstance(url, str):
        raise _config("url", f"must give an address, not {_kind(url)}")
    try:
        parsed = httpx2.URL(url.strip())
    except httpx2.InvalidURL as wrong:
        raise _config("url", f"gives no address: {wrong}") from wrong
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _config("url", "must give an address that begins with http:// or https://")
    if parsed.userinfo:
        raise _config("url", "holds a name or password; `auth` is the place for them")
    values = {name: _values(value, f"query.{name}") for name, value in query.items()}
    full = parsed.copy_merge_params({name: found for name, found in values.items() if found}) if values else parsed
    if len(str(full)) > MAX_URL:
        raise _config("url", f"gives an address of more than {MAX_URL} characters")
    return full.copy_with(fragment=None)


def headers(given: dict[str, JSON], auth: dict[str, JSON] | None) -> httpx2.Headers:
    found = {
        name.lower(): _header(name, value, f"headers.{name}") for name, value in given.items() if value is not None
    }
    if auth:
        name, value = _signed(auth)
        found[name.lower()] = _header(name, value, "auth")
    return httpx2.Headers([(name.encode(), value.encode()) for name, value in found.items()])


def _signed(auth: dict[str, JSON]) -> tuple[str, str]:
    if auth["type"] == "bearer":
        return "Authorization", f"Bearer {_line(auth['token'], 'auth.token')}"
    if auth["type"] == "basic":
        pair = f"{_line(auth['username'], 'auth.username')}:{_line(auth['password'], 'auth.password')}"
        return "Authorization", "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return str(auth["name"]), _line(auth["value"], "auth.value")


def _header(name: str, value: JSON, where: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise _config(where, "is no name of a header")
    if name.lower() in _OURS:
        raise _config(where, "is set by Treadle itself")
    return _line(value, where)


def _line(value: JSON, where: str) -> str:
    text = _text(value, where)
    if _CONTROL.search(text):
        raise _config(where, "holds a line break or another control character")
    return text.strip()


def body(given: dict[str, Any] | None) -> tuple[dict[str, Any], str | None]:
    """The body as httpx2's `build_request` takes it, and its media type where httpx2 does not set that."""
    if given is None:
        return {}, None
    content = given["content"]
    if given["type"] == "json":
        return {"content": orjson.dumps(content)}, "application/json"
    if given["type"] == "form":
        return {"data": {name: _values(value, f"body.content.{name}") for name, value in content.items()}}, None
    if given["type"] == "raw":
        return {"content": _bytes(content, given["encoding"], "body.content")}, _line(given["media"], "body.media")
    return {"files": [_part(part, f"body.content[{index}]") for index, part in enumerate(content)]}, None


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
    except binascii.Error as wrong:
        raise _config(where, f"is no base64: {wrong}") from wrong


def _values(value: JSON, where: str) -> list[str]:
    """One for each time that the name is sent; none for null."""
    values = value if isinstance(value, list) else [value]
    return [_text(item, where) for item in values if item is not None]


def _text(value: JSON, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise _config(where, f"must give text or a number, not {_kind(value)}")


def _kind(value: JSON) -> str:
    return {dict: "an object", list: "a list", type(None): "null"}.get(type(value), f"a {type(value).__name__}")


def _config(where: str, what: str) -> NodeFailure:
    return NodeFailure("CONFIG", f"`{where}` {what}")
