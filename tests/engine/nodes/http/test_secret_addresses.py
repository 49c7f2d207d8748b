"""No message and no output repeats the host or address of a request whose template names a secret."""

import json
from typing import Any

import pytest

from engine.isolation.suspension import suspendable
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.nodes.http.node import HttpNode
from engine.nodes.http.visible_address import VisibleAddress
from engine.runtime.attempts import run_attempts
from tests.engine.node_runner import NodeHarness
from tests.engine.nodes.http.http_nodes import LOOPBACK
from tests.engine.runtime.test_secrets import bind, everything_reported
from tests.engine.secret_values import MemorySecrets
from tests.peers.http import Peer

SECRETS = {
    "mixed": "CanaryXyzKey",
    "slash": "Abc9/Def8Ghi7Jkl6",
    "odd": "Grüße-Geheim-Q1w2",
    "port": "canary81-QWE:99x",
    "at": "Canary@Qwerty1234",
}
PIECES = {
    "mixed": ["canaryxyz"],
    "slash": ["abc9", "def8"],
    "odd": ["xn--gre-geheim", "geheim"],
    "port": ["canary81"],
    "at": ["qwerty1234"],
}
URLS = [
    "http://{KEY}.invalid/path",
    "http://{KEY}/path",
    "http://{KEY | upper}.invalid",
    "http://x{KEY | replace('9', '8')}.invalid/a/b",
    "https://user.{KEY}.invalid:443/?q={KEY}",
    "{KEY}",
    "http:{KEY}",
    "//{KEY}",
    "{'http://' ~ secrets.NAME ~ '.invalid'}",
    "{% set h = secrets.NAME %}http://{{ h }}.invalid/",
    "http://[{KEY}]/",
    "http://127.0.0.1:1/{KEY}",
    "http://127.0.0.1:{KEY}/",
    "http://10.0.0.1/{KEY | lower}",
]


def template(url: str, name: str) -> str:
    text = url.replace("{KEY", "{secrets.NAME").replace("NAME", name)
    return text if "{%" in text else text.replace("{", "{{ ").replace("}", " }}")


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("url", URLS)
async def test_a_failed_request_repeats_no_part_of_a_secret(url: str, name: str) -> None:
    """Names that end in `.invalid` do not exist (RFC 6761)."""
    resources = {"secrets": MemorySecrets(**SECRETS), "http": GuardedHttp(Allowed.parse("127.0.0.1"))}
    harness = NodeHarness({}, resources)
    config = {"url": template(url, name), "retry": {"maxAttempts": 2, "backoffS": 0}, "connectTimeoutS": 2}
    result = await suspendable(run_attempts(bind(config, HttpNode()), harness.context))
    assert result.error is not None
    reported = everything_reported(harness, result).lower()
    noted = json.dumps(harness.context.noted_input).lower()
    for piece in PIECES[name]:
        assert piece not in reported.replace(noted, ""), result.error.message


async def run_with(peer: Peer, **config: Any) -> tuple[Any, str]:
    secrets = MemorySecrets(
        **SECRETS, host=peer.url.removeprefix("http://").rpartition(":")[0].replace("127.0.0.1", "LocalHost")
    )
    harness = NodeHarness({}, {"secrets": secrets, "http": LOOPBACK})
    config = {"retry": {"maxAttempts": 1}, **config}
    result = await suspendable(run_attempts(bind(config, HttpNode()), harness.context))
    return result, everything_reported(harness, result)


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("/status?code=500", {}, "HTTP_STATUS"),
    ("/not-json", {"response": {"kind": "json"}}, "HTTP_RESPONSE"),
    ("/loop", {}, "HTTP_RESPONSE"),
    ("/closed", {}, "HTTP_RESPONSE"),
    ("/hang", {"timeoutS": 0.2}, "HTTP_TIMEOUT"),
    ("/echo", {"pagination": {"by": "link"}}, "HTTP_RESPONSE"),
    ("/to?url=ftp://example.com", {}, "HTTP_BLOCKED"),
]


@pytest.mark.parametrize(("path", "config", "code"), CASES)
async def test_no_response_makes_a_message_repeat_a_hidden_host(
    peer: Peer, path: str, config: dict[str, Any], code: str
) -> None:
    port = peer.url.rpartition(":")[2]
    result, reported = await run_with(peer, url=f"http://{{{{ secrets.host }}}}:{port}{path}", **config)
    assert result.error is not None
    assert result.error.code == code
    assert "localhost" not in reported.lower()
    assert "the address in `url`" in result.error.message


async def test_the_output_hides_an_address_whose_host_is_secret_and_shows_any_other(peer: Peer) -> None:
    port = peer.url.rpartition(":")[2]
    result, _ = await run_with(peer, url=f"http://{{{{ secrets.host }}}}:{port}/echo")
    assert result.outcome.value["url"] == "•••"
    result, _ = await run_with(peer, url=f"{peer.url}/echo", headers={"x": "{{ secrets.mixed }}"})
    assert result.outcome.value["url"] == f"{peer.url}/echo"


LABELS: list[tuple[str, dict[str, Any], str, str]] = [
    ("http://a.com/b?c", {}, "http://a.com/b?c", "GET http://a.com/b"),
    ("http://a.com/{{ secrets.k }}", {}, "http://a.com/x", "GET http://a.com/•••"),
    ("http://{{ input.a / 2 }}.com/{{ secrets.k }}", {}, "http://1.com/x", "GET http://1.com/•••"),
    ("http://{{ secrets.k }}.com/", {}, "http://x.com/", "GET the address in `url`"),
    ("http://a.com?{{ secrets.k }}", {}, "http://a.com?x", "GET http://a.com/•••"),
    ("http://a.com/b", {"k": "{{ secrets.k }}"}, "http://a.com/b?k=x", "GET http://a.com/b"),
    ("http://a.com/b", {"k": "{{ secrets.k }}"}, "http://x.org/b", "GET another address, to which the target leads"),
]


@pytest.mark.parametrize(("url", "query", "shown", "label"), LABELS)
def test_messages_show_what_names_no_secret(url: str, query: dict[str, Any], shown: str, label: str) -> None:
    own = shown if "x.org" not in shown else url
    assert VisibleAddress.of(url, query, own).label("GET", shown) == label
