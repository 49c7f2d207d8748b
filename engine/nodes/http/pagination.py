"""Reads a list page by page, until there is no next one or the limit is reached."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2

from engine.errors import NodeFailure
from engine.nodes.http.config import Paging
from engine.nodes.http.exchange import HttpAnswer, shown
from engine.types import JSON

Read = Callable[[httpx2.URL, int], Awaitable[tuple[HttpAnswer, JSON]]]
"""Sends the request for a page (from 1) and gives the answer with its decoded body."""


@dataclass(slots=True)
class Collected:
    """`is_cut`: there was a next page, and the limit said no."""

    answer: HttpAnswer
    items: list[JSON] = field(default_factory=list)
    pages: int = 1
    is_cut: bool = False


async def read_pages(first: httpx2.URL, pages: Paging, read: Read) -> Collected:
    """Raises NodeFailure."""
    answer, body = await read(first, 1)
    found = Collected(answer)
    current, seen = first, {str(first)}
    while True:
        found.items += _items(body, pages, found.answer)
        following = _next(current, found.answer, body, pages)
        if following is None:
            return found
        if found.pages == pages.limit:
            found.is_cut = True
            return found
        if str(following) in seen:
            raise _wrong(found.answer, "names a next page that was read before")
        current, found.pages = following, found.pages + 1
        seen.add(str(current))
        found.answer, body = await read(current, found.pages)


def _items(body: JSON, pages: Paging, answer: HttpAnswer) -> list[JSON]:
    items = body if pages.items is None else at(body, pages.items)
    if not isinstance(items, list):
        where = f"at `{pages.items}`" if pages.items else "as its body"
        raise _wrong(answer, f"has no list {where}; `pages.items` says where it stands")
    return items


def _next(current: httpx2.URL, answer: HttpAnswer, body: JSON, pages: Paging) -> httpx2.URL | None:
    found = answer.link_next if pages.by == "link" else at(body, pages.path or "")
    if found is None or found == "" or found is False:
        return None
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise _wrong(answer, f"has something at `{pages.path}` that leads to no next page")
    if pages.by == "cursor":
        return current.copy_set_param(pages.parameter, found)
    try:
        following = httpx2.URL(answer.url).join(str(found))
    except httpx2.InvalidURL as wrong:
        raise _wrong(answer, f"names a next page that is no address: {wrong}") from wrong
    if following.scheme not in ("http", "https") or not following.host or following.userinfo:
        raise _wrong(answer, "names a next page that is not plain http or https")
    return following.copy_with(fragment=None)


def at(value: JSON, path: str) -> JSON:
    """What stands at `data.items.0`; null where there is nothing."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step[:9]) < len(value):
            value = value[int(step[:9])]
        else:
            return None
    return value


def _wrong(answer: HttpAnswer, what: str) -> NodeFailure:
    return NodeFailure("HTTP_RESPONSE", f"the page that {shown(answer.method, answer.url)} answered with {what}")
