"""Signatures of webhooks, the events of their messages, and what identifies a message."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.triggers.registry import read_config
from engine.triggers.webhook import (
    BadMessage,
    SignatureVerdict,
    WebhookConfig,
    WebhookKind,
    WebhookMessage,
    WebhookSignature,
    event_of,
    message_key,
    parse_body,
    verify,
)

PING = b'{"event_type":"ping","data":{"success":true}}'
AT = 1_731_705_121
# The example of the specification of Standard Webhooks.
STANDARD = {
    "webhook-id": "msg_loFOjxBNrRLzqYUf",
    "webhook-timestamp": str(AT),
    "webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
}
STANDARD_KEY = "whsec_plJ3nmyCDGBKInavdOK15jsl"
# The example of GitHub's documentation.
GITHUB = {
    "x-github-delivery": "72d3162e",
    "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
}
GITHUB_KEY, HELLO = "It's a Secret to Everybody", b"Hello, World!"


def sign(key: str, signed: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(key.encode(), signed, algorithm).digest()


STRIPE = {"stripe-signature": f"t={AT},v0=old,v1=00,v1={sign('k' * 8, b'%d.' % AT + PING).hex()}"}
PLAIN = {"x-signature": sign("k" * 8, PING).hex()}
TIMED = {"x-sig": "v0=" + base64.b64encode(sign("k" * 8, b"%d." % AT + PING, "sha512")).decode(), "x-at": str(AT)}
TIMED_CONFIG = {
    "kind": "hmac",
    "header": "X-Sig",
    "timestampHeader": "X-At",
    "algorithm": "sha512",
    "encoding": "base64",
    "prefix": "v0=",
}
VALID, MISSING = SignatureVerdict.VALID, SignatureVerdict.MISSING
INVALID, EXPIRED = SignatureVerdict.INVALID, SignatureVerdict.EXPIRED


@pytest.mark.parametrize(
    ("config", "key", "headers", "body", "late_s", "verdict"),
    [
        ({"kind": "standard"}, STANDARD_KEY, STANDARD, PING, 0, VALID),
        ({"kind": "standard"}, STANDARD_KEY, STANDARD, PING, -300, VALID),
        ({"kind": "standard"}, STANDARD_KEY, STANDARD, PING, 301, EXPIRED),
        ({"kind": "standard", "toleranceS": 600}, STANDARD_KEY, STANDARD, PING, 301, VALID),
        ({"kind": "standard"}, STANDARD_KEY, STANDARD, PING + b" ", 0, INVALID),
        ({"kind": "standard"}, "whsec_" + "A" * 32, STANDARD, PING, 0, INVALID),
        ({"kind": "standard"}, STANDARD_KEY, {**STANDARD, "webhook-timestamp": str(AT + 9)}, PING, 0, INVALID),
        ({"kind": "standard"}, STANDARD_KEY, {**STANDARD, "webhook-id": "other"}, PING, 0, INVALID),
        ({"kind": "standard"}, STANDARD_KEY, {**STANDARD, "webhook-signature": "v1,é v1,x"}, PING, 0, INVALID),
        ({"kind": "standard"}, STANDARD_KEY, {**STANDARD, "webhook-signature": "v1a,x"}, PING, 0, MISSING),
        ({"kind": "standard"}, STANDARD_KEY, {}, PING, 0, MISSING),
        ({"kind": "github"}, GITHUB_KEY, GITHUB, HELLO, 10**6, VALID),
        ({"kind": "github"}, GITHUB_KEY, GITHUB, PING, 0, INVALID),
        ({"kind": "github"}, GITHUB_KEY, {"x-hub-signature-256": "757107"}, HELLO, 0, MISSING),
        ({"kind": "stripe"}, "k" * 8, STRIPE, PING, 0, VALID),
        ({"kind": "stripe"}, "k" * 8, STRIPE, PING, 3600, EXPIRED),
        ({"kind": "stripe"}, "k" * 8, {"stripe-signature": "v1=00"}, PING, 0, MISSING),
        ({"kind": "hmac"}, "k" * 8, PLAIN, PING, 10**6, VALID),
        ({"kind": "hmac"}, "k" * 9, PLAIN, PING, 0, INVALID),
        (TIMED_CONFIG, "k" * 8, TIMED, PING, 0, VALID),
        (TIMED_CONFIG, "k" * 8, TIMED, PING, 301, EXPIRED),
        (TIMED_CONFIG, "k" * 8, {**TIMED, "x-sig": "AAAA"}, PING, 0, MISSING),
    ],
)
def test_the_verdict_on_a_signature(
    config: dict[str, Any], key: str, headers: dict[str, str], body: bytes, late_s: int, verdict: SignatureVerdict
) -> None:
    signature = WebhookSignature.model_validate({**config, "secret": "s"})
    now = datetime.fromtimestamp(AT + late_s, UTC)
    assert verify(signature, key, WebhookMessage("POST", headers, {}, body), now)[0] is verdict


def test_a_signed_time_that_is_no_number_is_invalid() -> None:
    for time in ("1e9", "-5", "9" * 30, "٣"):
        signed = f"id.{time}.".encode() + PING
        value = base64.b64encode(hmac.new(b"key key!", signed, hashlib.sha256).digest()).decode()
        headers = {"webhook-id": "id", "webhook-timestamp": time, "webhook-signature": f"v1,{value}"}
        signature = WebhookSignature(kind="standard", secret="s")
        verdict, _ = verify(signature, "key key!", WebhookMessage("POST", headers, {}, PING), datetime.now(UTC))
        assert verdict is INVALID


JSON_TYPE, FORM_TYPE = "application/json; charset=utf-8", "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("content", "content_type", "body", "expected"),
    [
        ("auto", JSON_TYPE, b'{"a": [1]}', {"a": [1]}),
        ("auto", "application/cloudevents+json", b"[]", []),
        ("auto", FORM_TYPE, b"a=1&b=&a=2", {"a": ["1", "2"], "b": ""}),
        ("auto", "text/plain", b"hello", "hello"),
        ("auto", "", b"\xff\x00", {"base64": "/wA="}),
        ("json", "text/plain", b"1", 1),
        ("raw", JSON_TYPE, b"{}", "{}"),
    ],
)
def test_bodies(content: Any, content_type: str, body: bytes, expected: Any) -> None:
    message = WebhookMessage("POST", {"content-type": content_type}, {}, body)
    assert parse_body(WebhookConfig(content=content), message) == expected


@pytest.mark.parametrize(
    ("content", "body"), [("json", b"{"), ("json", b"\xff"), ("json", b""), ("json", b"NaN"), ("form", b"a=\xff")]
)
def test_a_malformed_body_is_reported(content: Any, body: bytes) -> None:
    with pytest.raises(BadMessage, match=f"the body is no {'JSON' if content == 'json' else 'form'}"):
        parse_body(WebhookConfig(content=content), WebhookMessage("POST", {}, {}, body))


def test_an_event_has_no_credentials_and_is_storable() -> None:
    headers = {"authorization": "Bearer x", "cookie": "a=b", "x-id": "7"}
    event = event_of(WebhookMessage("POST", headers, {"q": "1"}, b""), "m", {"a": 1}, datetime(2026, 1, 1, tzinfo=UTC))
    assert event["headers"] == {"x-id": "7"} and event["receivedAt"] == "2026-01-01T00:00:00Z"
    with pytest.raises(BadMessage):
        event_of(WebhookMessage("POST", {}, {}, b""), None, "\0", datetime.now(UTC))


@pytest.mark.parametrize(
    ("dedupe", "expected"),
    [
        (None, "signed-id"),
        ({"header": "X-Id"}, "7"),
        ({"header": "x-other"}, None),
        ({"template": "{{ event.body.id }}"}, "12"),
        ({"template": "{{ event.body.none.id }}"}, BadMessage),
        ({"template": "{{ event.body }}"}, BadMessage),
    ],
)
def test_what_identifies_a_message(dedupe: Any, expected: Any) -> None:
    message = WebhookMessage("POST", {"x-id": "7"}, {}, b"")
    event = event_of(message, None, {"id": 12}, datetime.now(UTC))
    config = WebhookConfig.model_validate({"dedupe": dedupe})
    if expected is BadMessage:
        with pytest.raises(BadMessage, match="dedupe"):
            message_key(config, "signed-id", message, event)
    else:
        assert message_key(config, "signed-id", message, event) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"allowedIps": ["10.0.0.1/8"]}, "'10.0.0.1/8' is no IP address and no network"),
        ({"dedupe": {}}, "give either `header` or `template`"),
        ({"dedupe": {"template": "{{ event"}}, "is not valid: `{{` has no end"),
        ({"challenge": {"secret": "s"}}, "`verifyParameter` and `secret` belong together"),
        ({"signature": {"kind": "rsa", "secret": "s"}}, "must be"),
        ({"ratePerMinute": 0}, "must be at least 1"),
    ],
)
def test_an_invalid_config_of_a_webhook_has_a_clear_message(config: dict[str, Any], message: str) -> None:
    parsed, problems = read_config(WebhookKind(), config)
    assert parsed is None and any(message in problem.message for problem in problems), problems


def test_addresses() -> None:
    config = WebhookConfig(allowedIps=["192.0.2.0/24", "2001:db8::1"])
    allowed = ["192.0.2.9", "2001:db8::1", "::ffff:192.0.2.9", "192.0.3.1", None, "unix"]
    assert [config.allows(address) for address in allowed] == [True, True, True, False, False, False]
    assert WebhookConfig().allows(None)
