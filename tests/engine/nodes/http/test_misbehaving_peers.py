"""`http` nodes against servers that misbehave: each ends in a clear error, with little memory."""

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from tests.cpu_time import PassMeter, shortest
from tests.engine.nodes.http.http_nodes import QUICK, failure, output
from tests.peers.http import Peer, http_peer
from tests.peers.http_protocol import MIB
from tests.peers.misbehaving_http import bomb, members
from tests.peers.tls import self_signed

BAD_PEERS: list[tuple[str, str, str]] = [
    ("/hang", "HTTP_TIMEOUT", "did not finish within 0.3 s"),
    ("/drip", "HTTP_TIMEOUT", "did not finish within 0.3 s"),
    ("/drip-headers", "HTTP_TIMEOUT", "did not finish within 0.3 s"),
    ("/endless-headers", "HTTP_RESPONSE", "the connection was lost"),
    ("/headers?kind=many", "HTTP_RESPONSE", "the response has more than 200 headers"),
    ("/headers?kind=large", "HTTP_RESPONSE", "the headers of the response are larger than 32 KiB"),
    ("/headers?kind=links", "HTTP_RESPONSE", "the headers of the response are larger than 32 KiB"),
    ("/headers?kind=media", "HTTP_RESPONSE", "the headers of the response are larger than 32 KiB"),
    ("/short", "HTTP_RESPONSE", "the connection was lost before the response was complete"),
    ("/closed", "HTTP_RESPONSE", "the connection was lost"),
    ("/garbage", "HTTP_RESPONSE", "the connection was lost"),
    ("/gib", "HTTP_RESPONSE", "more than 100,000 bytes"),
    ("/gib-announced", "HTTP_RESPONSE", "more than 100,000 bytes"),
    ("/bomb?layers=1", "HTTP_RESPONSE", "more than 100,000 bytes"),
    ("/bomb?layers=2", "HTTP_RESPONSE", "the body has the coding 'gzip, gzip'"),
    ("/bomb?layers=3", "HTTP_RESPONSE", "only one of gzip, deflate is accepted"),
    ("/coded?coding=br", "HTTP_RESPONSE", "the body has the coding 'br'"),
    ("/coded?coding=zstd", "HTTP_RESPONSE", "the body has the coding 'zstd'"),
    ("/coded?coding=none", "HTTP_RESPONSE", "the body has the coding 'none'"),
    ("/members?count=100000", "HTTP_RESPONSE", "more than 100,000 bytes"),
    ("/cut-gzip", "HTTP_RESPONSE", "the compressed body ends too early"),
    ("/not-gzip", "HTTP_RESPONSE", "cannot be decompressed"),
    ("/broken-utf8", "HTTP_RESPONSE", "is no utf-8 text at byte 3: use the kind `base64`"),
    ("/as?media=text/plain;charset=zlib", "HTTP_RESPONSE", "an unknown charset (zlib)"),
    ("/as?media=text/plain;charset=punycode", "HTTP_RESPONSE", "an unknown charset (punycode)"),
    ("/not-json", "HTTP_RESPONSE", "is no JSON"),
    ("/status?code=404", "HTTP_STATUS", "answered 404 Refused"),
    ("/status?code=503", "HTTP_STATUS", "answered 503 Refused"),
    ("/loop", "HTTP_RESPONSE", "redirected more than 5 times"),
    ("/to?url=ftp://example.com", "HTTP_BLOCKED", "not plain http"),
    ("/to?url=http://a:b@example.com", "HTTP_BLOCKED", "not plain http"),
    ("/to?url=http://a:b", "HTTP_RESPONSE", "invalid address"),
    ("/to?url=http://10.0.0.1/", "HTTP_BLOCKED", "10.0.0.1 is not on the public internet"),
    ("/to?url=http://169.254.169.254/latest", "HTTP_BLOCKED", "TREADLE_HTTP_ALLOW"),
]


@pytest.mark.parametrize(("path", "code", "message"), BAD_PEERS)
async def test_a_misbehaving_server_is_a_clear_error(peer: Peer, path: str, code: str, message: str) -> None:
    limits = {"timeoutS": 0.3 if code == "HTTP_TIMEOUT" else 15, "response": {"maxBytes": 100_000}}
    body = {"body": {"type": "raw", "content": "x"}, "method": "POST"} if "/as" in path else {}
    failed = await failure(url=peer.url + path, retry={"maxAttempts": 1}, **limits, **body)
    assert (failed.code, message in failed.message) == (code, True), failed.message
    assert peer.written < 64 * MIB


async def test_a_compression_bomb_is_not_expanded_in_memory(peer: Peer) -> None:
    await output(url=f"{peer.url}/gzip")
    assert bomb(1)  # The peer lives in this process, so its body is made before.
    tracemalloc.start()
    try:
        await failure(url=f"{peer.url}/bomb?layers=1", response={"maxBytes": MIB})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


@pytest.mark.parametrize(
    "path", ["/bomb?layers=1", "/bomb?layers=3", "/members?count=600000", "/headers?kind=many", "/headers?kind=media"]
)
async def test_a_compressed_response_never_holds_the_event_loop(peer: Peer, path: str) -> None:
    # The peer lives in this process, so its bodies are made before.
    bodies = [bomb(1), bomb(3), members(600_000)]

    async def block() -> float:
        meter = PassMeter()
        await failure(url=peer.url + path, response={"maxBytes": 8 * MIB})
        return meter.stop()

    assert await shortest(block, 0.1) < 0.1 and all(bodies)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip", "raw-deflate", "GZIP", "identity", "two-members"])
async def test_each_accepted_coding_is_read(peer: Peer, coding: str) -> None:
    assert (await output(url=f"{peer.url}/coded?coding={coding}"))["body"] == {"packed": True}


async def test_a_server_that_refuses_connections_is_a_clear_error() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    failed = await failure(url=f"http://127.0.0.1:{port}/", retry=QUICK)
    assert (failed.code, failed.retryable) == ("HTTP_CONNECT", True)
    assert f"GET http://127.0.0.1:{port}/: no connection" in failed.message


async def test_a_name_that_does_not_exist_is_a_clear_error() -> None:
    failed = await failure(url="http://no-such-host.invalid/", retry=QUICK)
    assert (failed.code, "the name cannot be resolved" in failed.message) == ("HTTP_CONNECT", True)


async def test_an_untrusted_certificate_is_a_clear_error(tmp_path: Path) -> None:
    async with http_peer(self_signed(tmp_path, "localhost")) as peer:
        failed = await failure(url=f"https://localhost:{peer.port}/echo", retry={"maxAttempts": 1})
    assert (failed.code, "the certificate is not accepted (self-signed certificate)" in failed.message) == (
        "HTTP_CONNECT",
        True,
    )


async def test_a_cancelled_call_closes_its_connection(peer: Peer) -> None:
    for path in ("/hang", "/drip"):
        peer.left.clear()
        call = asyncio.create_task(output(url=peer.url + path))
        async with asyncio.timeout(5):
            await peer.until(lambda path=path: peer.count(path))
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await peer.left.wait()
        assert call.cancelled()
