"""Paths of the test server for tests/end_to_end/cases."""

from tests.peers.http_protocol import Peer, Request, Writer, answer, at


@at("/bom")
async def with_byte_order_mark(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b'\xef\xbb\xbf{"a":1}')


@at("/page")
async def page_without_list(_: Peer, request: Request, writer: Writer) -> None:
    answer(writer, b'{"items": [1, 2], "next": null}')
