"""Lists that `http` nodes read page by page, and invalid next pages."""

from typing import Any

import pytest

from tests.engine.nodes.http.http_nodes import HttpVisit, failure, output
from tests.peers.http import Peer


@pytest.mark.parametrize(
    "pagination",
    [
        {"by": "link", "items": "data"},
        {"by": "url", "path": "next", "items": "data"},
        {"by": "cursor", "path": "cursor", "parameter": "cursor", "items": "data"},
    ],
)
async def test_a_list_is_read_page_by_page(peer: Peer, pagination: dict[str, Any]) -> None:
    response = await output(url=f"{peer.url}/pages", pagination=pagination)
    assert response["body"] == ["1a", "1b", "2a", "2b", "3a", "3b"]
    assert (response["pages"], response["truncated"]) == (3, False)
    cut = HttpVisit({"url": f"{peer.url}/pages", "pagination": {**pagination, "limit": 2}})
    response = await cut.output()
    assert (response["body"], response["truncated"]) == (["1a", "1b", "2a", "2b"], True)
    page = f"GET {peer.url}/pages answered 200"
    assert cut.logs == [page, page, "there are more than 2 pages: the rest is not read"]


async def test_a_cursor_replaces_the_one_before_and_keeps_the_rest_of_the_query(peer: Peer) -> None:
    pagination = {"by": "cursor", "path": "cursor", "items": "data"}
    response = await output(url=f"{peer.url}/pages?f=a%2Fb+c&flag&%63ursor=1", query={"f": "d"}, pagination=pagination)
    assert response["body"] == ["1a", "1b", "2a", "2b", "3a", "3b"]
    assert response["url"] == f"{peer.url}/pages?f=a%2Fb+c&flag&f=d&cursor=3"


@pytest.mark.parametrize(
    ("path", "pagination", "message"),
    [
        ("/pages-in-a-circle", {"by": "url", "path": "next", "items": "data"}, "a next page that was read before"),
        ("/pages-for-ever", {"by": "url", "path": "next", "items": "data", "limit": 1000}, "more than"),
        ("/pages", {"by": "link", "items": "nope"}, "has no list at `nope`"),
        ("/pages", {"by": "link"}, "has no list as its body; set `pagination.items` to the path of the list"),
        ("/pages", {"by": "url", "path": "data", "items": "data"}, "does not lead to a next page"),
    ],
)
async def test_an_invalid_next_page_is_a_clear_error(
    peer: Peer, path: str, pagination: dict[str, Any], message: str
) -> None:
    failed = await failure(url=peer.url + path, pagination=pagination, response={"maxBytes": 10_000})
    assert (failed.code, message in failed.message) == ("HTTP_RESPONSE", True), failed.message
