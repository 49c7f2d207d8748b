"""Allowed targets of `http` nodes: the public internet and what the administrator allows."""

import asyncio
import ssl
from ipaddress import ip_address
from typing import Any

import pytest

from engine.nodes.http.addresses import Allowed, is_public
from engine.nodes.http.client import Blocked, GuardedHttp
from tests.engine.nodes.http.http_nodes import LOOPBACK, QUICK, failure
from tests.peers.http import Peer

PRIVATE = [
    "http://127.0.0.1:{port}/echo",
    "http://localhost:{port}/echo",
    "http://127.1:{port}/echo",
    "http://2130706433:{port}/echo",
    "http://0x7f000001:{port}/echo",
    "http://0:{port}/echo",
    "http://[::1]:{port}/echo",
    "http://[::]:{port}/echo",
    "http://[::ffff:127.0.0.1]:{port}/echo",
    "http://[::ffff:7f00:1]:{port}/echo",
    "http://[64:ff9b::127.0.0.1]:{port}/echo",
]


@pytest.mark.parametrize("url", PRIVATE)
async def test_private_targets_are_refused_in_every_notation(peer: Peer, url: str) -> None:
    failed = await failure(GuardedHttp(), url=url.format(port=peer.port), retry=QUICK)
    assert (failed.code, failed.retryable) == ("HTTP_BLOCKED", False)
    assert peer.seen == []


async def test_a_redirect_to_a_private_target_is_refused(peer: Peer) -> None:
    """The first name is allowed; the second is the same machine under another name."""
    guarded = GuardedHttp(Allowed.parse("localhost"))
    failed = await failure(guarded, url=f"{peer.elsewhere}/to?url={peer.url}/echo")
    assert (failed.code, peer.count("/echo")) == ("HTTP_BLOCKED", 0)


async def test_a_name_is_resolved_once_and_the_checked_address_is_used(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a name that is public at the check and private later is refused."""
    answers = iter([[(2, 1, 6, "", ("127.0.0.2", peer.port))], [(2, 1, 6, "", ("127.0.0.1", peer.port))]])

    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        return next(answers)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    guarded = GuardedHttp(Allowed.parse("127.0.0.2/32"))
    failed = await failure(guarded, url=f"http://rebinding.example:{peer.port}/echo", retry={"maxAttempts": 1})
    assert (failed.code, peer.seen) == ("HTTP_CONNECT", [])
    failed = await failure(guarded, url=f"http://rebinding.example:{peer.port}/echo", retry={"maxAttempts": 1})
    assert failed.code == "HTTP_BLOCKED"


async def test_an_address_without_an_answer_does_not_use_up_the_time_of_the_others(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [(10, 1, 6, "", ("::1", peer.port, 0, 0)), (2, 1, 6, "", ("127.0.0.1", peer.port))]

    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        return both

    async with LOOPBACK.client() as client:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        assert (await client.get(f"{peer.elsewhere}/echo")).status_code == 200


ADDRESSES = {
    "93.184.215.14": True,
    "1.1.1.1": True,
    "2606:4700:4700::1111": True,
    "64:ff9b::1.1.1.1": True,
    "2002:101:101::": True,
    **dict.fromkeys(
        [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ],
        False,
    ),
}


@pytest.mark.parametrize(("address", "public"), ADDRESSES.items())
def test_public_addresses_are_recognised(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def test_the_administrator_can_allow_names_and_networks() -> None:
    allowed = Allowed.parse("Api.Internal, 10.1.0.0/16, *.cluster.local, fd00::/8, [::1], 127.0.0.1")
    may = {
        ("api.internal", "10.9.9.9"): True,
        ("api.internal.", "10.9.9.9"): True,
        ("other", "10.1.2.3"): True,
        ("other", "::ffff:10.1.2.3"): True,
        ("other", "10.2.0.1"): False,
        ("a.cluster.local", "10.2.0.1"): True,
        ("evil-cluster.local", "10.2.0.1"): False,
        ("other", "fd12::1"): True,
        ("other", "::1"): True,
        ("other", "127.0.0.2"): False,
    }
    for (host, address), expected in may.items():
        assert allowed.may_connect(host, ip_address(address)) is expected, (host, address)
    with pytest.raises(ValueError, match="is not a network"):
        Allowed.parse("10.0.0.0/33")


async def test_certificates_are_checked() -> None:
    async with GuardedHttp().client() as client:
        context = client._transport._pool._ssl_context  # type: ignore[attr-defined]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_a_blocked_target_has_its_own_error_code(peer: Peer) -> None:
    async with GuardedHttp().client() as client:
        with pytest.raises(Blocked):
            await client.get(f"{peer.url}/echo")
