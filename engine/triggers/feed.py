"""Reads the entries of a feed: RSS 0.9 to 2.0, RDF (RSS 1.0) and Atom (RFC 4287). Pure.

`feed_entries` is an isolated task: a hostile document ends the isolation process, and nothing else.
Only the local names of elements count, because feeds use several namespaces.
"""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from xml.etree import ElementTree

from engine.types import JSON
from engine.values.timestamps import format_timestamp

_ENTRIES = frozenset({"item", "entry"})
_TEXTS = {
    "title": "title",
    "guid": "id",
    "id": "id",
    "description": "summary",
    "summary": "summary",
    "encoded": "content",
    "content": "content",
    "creator": "author",
    "author": "author",
    "pubdate": "published",
    "published": "published",
    "date": "published",
    "updated": "updated",
}
"""The field of an entry, by the local name of an element in lower case. The first element counts."""


def feed_entries(document: str) -> JSON:
    """Return the entries in the order of the document, or a text that says why there are none.

    Args:
        document: The bytes of the document, each as the character with its number.
    """
    try:
        root = ElementTree.fromstring(document.encode("latin-1"))
    except (ElementTree.ParseError, LookupError, ValueError):
        return "the source returned no feed: the document is no well-formed XML"
    if _name(root) not in ("rss", "feed", "rdf"):
        return "the source returned no feed: the document is neither RSS nor Atom"
    return [_entry(element) for element in root.iter() if _name(element) in _ENTRIES]


def _entry(element: Any) -> dict[str, JSON]:
    entry: dict[str, JSON] = {"title": None, "id": None, "link": None, "published": None, "updated": None}
    entry |= {"summary": None, "content": None, "author": None}
    categories: list[JSON] = []
    for child in element:
        name, text = _name(child), _text(child)
        if name == "link":
            _add_link(entry, child, text)
        elif name == "category":
            categories.append(child.get("term") or text)
        elif (field := _TEXTS.get(name)) is not None and entry[field] is None:
            entry[field] = _time(text) if field in ("published", "updated") else text or None
    return {**entry, "categories": categories}


def _add_link(entry: dict[str, JSON], element: Any, text: str) -> None:
    if entry["link"] is None and element.get("rel", "alternate") == "alternate":
        entry["link"] = element.get("href") or text or None


def _name(element: Any) -> str:
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _text(element: Any) -> str:
    return "".join(element.itertext()).strip()


def _time(text: str) -> str | None:
    """Return a time of RFC 5322 as one of RFC 3339, and any other text as it is."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return text or None
    return format_timestamp(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
