"""Reads a list page by page, until there is no next page or the limit is reached."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2

from engine.errors import NodeFailure
from engine.nodes.http.config import PaginationConfig
from engine.nodes.http.exchange import HttpResponse
from engine.nodes.http.request import with_parameters
from engine.types import JSON

ReadPage = Callable[[httpx2.URL, int], Awaitable[tuple[HttpResponse, JSON]]]
"""Sends the request for a page, numbered from 1; returns the response and its decoded body."""


@dataclass(slots=True)
class PagedList:
    """The items of all pages, and the last response.

    `is_truncated`: there are more pages than the limit.
    """

    response: HttpResponse
    items: list[JSON] = field(default_factory=list)
    count: int = 1
    is_truncated: bool = False


async def read_pages(first: httpx2.URL, config: PaginationConfig, read: ReadPage) -> PagedList:
    """Read pages from `first` on.

    Raises:
        NodeFailure: HTTP_RESPONSE if a page has no list, or no usable next page, or one that was
            read before; the failure of a request.
    """
    response, body = await read(first, 1)
    pages = PagedList(response)
    current, seen = first, {str(first)}
    while True:
        pages.items += _items(body, config, pages.response)
        following = _next(current, pages.response, body, config)
        if following is None:
            return pages
        if pages.count == config.limit:
            pages.is_truncated = True
            return pages
        if str(following) in seen:
            raise _failure(pages.response, "names a next page that was read before")
        current, pages.count = following, pages.count + 1
        seen.add(str(current))
        pages.response, body = await read(current, pages.count)


def _items(body: JSON, config: PaginationConfig, response: HttpResponse) -> list[JSON]:
    items = body if config.items is None else value_at(body, config.items)
    if not isinstance(items, list):
        where = f"at `{config.items}`" if config.items else "as its body"
        raise _failure(response, f"has no list {where}; set `pagination.items` to the path of the list")
    return items


def _next(current: httpx2.URL, response: HttpResponse, body: JSON, config: PaginationConfig) -> httpx2.URL | None:
    """Return the address of the next page, or None after the last one."""
    value = response.link_next if config.by == "link" else value_at(body, config.path or "")
    if value is None or value == "" or value is False:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _failure(response, f"has a value at `{config.path}` that does not lead to a next page")
    if config.by == "cursor":
        return with_parameters(current, {config.parameter: [str(value)]}, replaced=config.parameter)
    try:
        following = httpx2.URL(response.url).join(str(value))
    except httpx2.InvalidURL as error:
        raise _failure(response, "names a next page that is no valid address") from error
    if following.scheme not in ("http", "https") or not following.host or following.userinfo:
        raise _failure(response, "names a next page that is not plain http or https")
    return following.copy_with(fragment=None)


def value_at(value: JSON, path: str) -> JSON:
    """Return the value at a path such as `data.items.0`; None if there is none."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step[:9]) < len(value):
            value = value[int(step[:9])]
        else:
            return None
    return value


def _failure(response: HttpResponse, problem: str) -> NodeFailure:
    return NodeFailure("HTTP_RESPONSE", f"the page of {response.label} {problem}")
