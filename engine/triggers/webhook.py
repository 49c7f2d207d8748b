"""The trigger kind `webhook`: fires for requests to its address.

Everything here is a function of the request, the config and the time: the signature, the event and
the key of a message. The server stores a request before it is parsed (resolvers/triggers/webhooks.py).
Signatures: Standard Webhooks 1.0.0, GitHub, Stripe, and HMAC (RFC 2104) in any header.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs

import orjson
from pydantic import Field, field_validator

from engine.errors import NotStorable
from engine.expressions import evaluator
from engine.expressions.evaluator import ExpressionError
from engine.sdk.trigger import ConfigConflict, TriggerConfig, TriggerKind
from engine.types import JSON
from engine.values.json_text import NotJson, parse_json
from engine.values.storable import stored_form
from engine.values.timestamps import format_timestamp

MAX_BODY = 4 * 1024 * 1024
"""Bytes. The server accepts no larger body of any request."""
MAX_FORM_FIELDS = 1000
HIDDEN_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that the event and the stored delivery leave out."""
_DIGESTS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha512": hashlib.sha512}


class SignatureVerdict(StrEnum):
    """The result of the check of a signature."""

    VALID = "VALID"
    UNSIGNED = "UNSIGNED"
    """The trigger requires no signature."""
    MISSING = "MISSING"
    INVALID = "INVALID"
    EXPIRED = "EXPIRED"
    """The signature is valid, but its time is outside of the replay window."""


class WebhookSignature(TriggerConfig):
    """How a request is signed."""

    kind: Literal["standard", "github", "stripe", "hmac"] = Field(
        title="Kind", description="Standard Webhooks, GitHub, Stripe, or an HMAC in a header.", examples=["standard"]
    )
    secret: str = Field(
        min_length=1,
        max_length=100,
        title="Secret",
        description="The name of the secret of the project that has the key.",
        examples=["shop_webhook"],
        json_schema_extra={"format": "secret-name"},
    )
    toleranceS: int = Field(  # noqa: N815
        300,
        ge=10,
        le=86_400,
        title="Replay window",
        description="Seconds by which the signed time may differ from now. GitHub signs no time.",
        examples=[300],
    )
    header: str = Field(
        "x-signature",
        max_length=100,
        title="Header",
        description="For `hmac`: the header with the signature.",
        examples=["x-hub-signature"],
    )
    timestampHeader: str | None = Field(  # noqa: N815
        None,
        max_length=100,
        title="Header of the time",
        description="For `hmac`: the header with the Unix time. The text `time.body` is signed then, else the body.",
        examples=["x-timestamp"],
    )
    algorithm: Literal["sha256", "sha512", "sha1"] = Field(
        "sha256", title="Algorithm", description="For `hmac`: the hash function.", examples=["sha256"]
    )
    encoding: Literal["hex", "base64"] = Field(
        "hex", title="Encoding", description="For `hmac`: the encoding of the signature.", examples=["hex"]
    )
    prefix: str = Field(
        "", max_length=20, title="Prefix", description="For `hmac`: text before the signature.", examples=["sha256="]
    )


class WebhookDedupe(TriggerConfig):
    """What identifies a message."""

    header: str | None = Field(
        None, max_length=100, title="Header", description="The header with the id.", examples=["x-request-id"]
    )
    template: str | None = Field(
        None,
        max_length=1000,
        title="Template",
        description="A template over `event` whose value is the id.",
        examples=["{{ event.body.id }}"],
        json_schema_extra={"format": "template"},
    )

    @field_validator("template")
    @classmethod
    def _check_template(cls, template: str | None) -> str | None:
        if template is not None and (problems := evaluator.check(template)):
            raise ValueError(f"is not valid: {'; '.join(message for message, _, _ in problems)}")
        if template is not None and (unknown := sorted(evaluator.template_names(template) - {"event"})):
            raise ValueError(f"there is no name `{unknown[0]}` here: the templates of a trigger see `event` only")
        return template

    def conflicts(self) -> Iterator[ConfigConflict]:
        if (self.header is None) == (self.template is None):
            yield ConfigConflict(("header", "template"), "give either `header` or `template`")


class WebhookChallenge(TriggerConfig):
    """The answer to a GET request by which a service checks the address."""

    parameter: str = Field(
        "challenge",
        max_length=100,
        title="Parameter",
        description="The parameter of the address whose value is the response.",
        examples=["hub.challenge"],
    )
    verifyParameter: str | None = Field(  # noqa: N815
        None,
        max_length=100,
        title="Parameter of the secret",
        description="The parameter that must have the value of `secret`.",
        examples=["hub.verify_token"],
    )
    secret: str | None = Field(
        None,
        max_length=100,
        title="Secret",
        description="The name of a secret of the project.",
        examples=["meta_verify_token"],
        json_schema_extra={"format": "secret-name"},
    )

    def conflicts(self) -> Iterator[ConfigConflict]:
        if (self.verifyParameter is None) != (self.secret is None):
            yield ConfigConflict(("verifyParameter", "secret"), "`verifyParameter` and `secret` belong together")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


class WebhookConfig(TriggerConfig):
    """The config of a `webhook`."""

    signature: WebhookSignature | None = Field(
        None,
        title="Signature",
        description="How requests are signed. Without it, whoever knows the address may start runs.",
        examples=[{"kind": "github", "secret": "github_webhook"}],
    )
    allowedIps: list[str] = Field(  # noqa: N815
        [],
        max_length=100,
        title="Allowed addresses",
        description="IP addresses and networks that may send. Empty: all.",
        examples=[["192.0.2.0/24"]],
    )
    ratePerMinute: int = Field(  # noqa: N815
        600,
        ge=1,
        le=60_000,
        title="Rate limit",
        description="Requests in a minute that one server accepts.",
        examples=[60],
    )
    maxBodyBytes: int = Field(  # noqa: N815
        1024 * 1024,
        ge=1,
        le=MAX_BODY,
        title="Body limit",
        description="Bytes of the largest body.",
        examples=[65_536],
    )
    content: Literal["auto", "json", "form", "raw"] = Field(
        "auto",
        title="Content",
        description="How the body is read. `auto`: by `Content-Type`; text of other types is raw.",
        examples=["json"],
    )
    dedupe: WebhookDedupe | None = Field(
        None,
        title="Deduplication",
        description="What identifies a message. Default: the message id of the kind of signature, if it has one.",
        examples=[{"header": "x-request-id"}],
    )
    respond: Literal["async", "sync"] = Field(
        "async",
        title="Response",
        description="`async`: 202 with the id of the run. `sync`: the output of the run.",
        examples=["sync"],
    )
    timeoutS: float = Field(  # noqa: N815
        30,
        gt=0,
        le=300,
        title="Timeout",
        description="For `sync`: seconds after which the response is 202 with the id of the run.",
        examples=[10],
    )
    challenge: WebhookChallenge | None = Field(
        None,
        title="Challenge",
        description="The response to a GET request by which a service checks the address.",
        examples=[{"parameter": "hub.challenge"}],
    )

    @field_validator("allowedIps")
    @classmethod
    def _check_networks(cls, networks: list[str]) -> list[str]:
        wrong = [network for network in networks if not _is_network(network)]
        if wrong:
            listed = "; ".join(f"{network!r} is no IP address and no network" for network in wrong)
            raise ValueError(f"{listed} such as 192.0.2.0/24")
        return networks

    def allows(self, address: str | None) -> bool:
        """Return whether a client with this address may send."""
        if not self.allowedIps:
            return True
        try:
            client = ipaddress.ip_address(address or "")
        except ValueError:
            return False
        client = getattr(client, "ipv4_mapped", None) or client
        return any(client in ipaddress.ip_network(network) for network in self.allowedIps)


class WebhookKind(TriggerKind[WebhookConfig]):
    """Fires for requests to its address."""

    name: ClassVar[str] = "webhook"
    title: ClassVar[str] = "Webhook"
    description: ClassVar[str] = "Starts a run for each message that is posted to its address."
    Config: ClassVar[type[TriggerConfig]] = WebhookConfig
    event_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"], "description": "The id of the message."},
            "method": {"type": "string"},
            "headers": {"type": "object", "description": "By name in lower case, without credentials."},
            "query": {"type": "object"},
            "contentType": {"type": ["string", "null"]},
            "body": {"description": "JSON, the fields of a form, or text. Other bytes are `{base64}`."},
            "receivedAt": {"type": "string", "format": "date-time"},
        },
        "required": ["method", "headers", "query", "body", "receivedAt"],
    }
    example: ClassVar[dict[str, Any]] = {
        "signature": {"kind": "standard", "secret": "shop_webhook"},
        "dedupe": {"header": "webhook-id"},
    }

    def event(self, config: WebhookConfig, planned: datetime) -> dict[str, JSON]:
        return event_of(WebhookMessage("POST", {}, {}, b"{}"), None, {}, planned)


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """One request. Names of headers are in lower case."""

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class BadMessage(ValueError):
    """The body of a message cannot be read. The text says why."""


def verify(
    signature: WebhookSignature, secret: str, message: WebhookMessage, now: datetime
) -> tuple[SignatureVerdict, str | None]:
    """Check the signature of a message.

    Args:
        signature: How messages are signed.
        secret: The key. For Standard Webhooks it may begin with `whsec_`, and is base64 then.
        message: The message.
        now: The present time.

    Returns:
        The verdict, and the id of the message if its kind has one.
    """
    headers, body = message.headers, message.body
    match signature.kind:
        case "standard":
            id, time = headers.get("webhook-id"), headers.get("webhook-timestamp")
            given = [part[3:] for part in headers.get("webhook-signature", "").split(" ") if part.startswith("v1,")]
            signed = f"{id}.{time}.".encode() + body
            expected = _encode(_digest("sha256", standard_key(secret), signed), "base64")
        case "github":
            id, time = headers.get("x-github-delivery"), None
            given = [_without(headers.get("x-hub-signature-256", ""), "sha256=")]
            expected = _encode(_digest("sha256", secret.encode(), body), "hex")
        case "stripe":
            parts = [part.strip().partition("=") for part in headers.get("stripe-signature", "").split(",")]
            time = next((value for name, _, value in parts if name == "t"), None)
            given, id = [value for name, _, value in parts if name == "v1"], _stripe_id(body)
            expected = _encode(_digest("sha256", secret.encode(), f"{time}.".encode() + body), "hex")
        case "hmac":
            id, name = None, signature.timestampHeader
            time = None if name is None else headers.get(name.lower())
            signed = body if name is None else f"{time}.".encode() + body
            given = [_without(headers.get(signature.header.lower(), ""), signature.prefix)]
            expected = _encode(_digest(signature.algorithm, secret.encode(), signed), signature.encoding)
    has_time = signature.kind in ("standard", "stripe") or signature.timestampHeader is not None
    return _verdict([one for one in given if one], expected, time, signature.toleranceS, now, has_time=has_time), id


def _verdict(
    given: list[str], expected: str, time: str | None, tolerance_s: int, now: datetime, *, has_time: bool
) -> SignatureVerdict:
    if not given or (has_time and time is None):
        return SignatureVerdict.MISSING
    # Every candidate is compared in constant time.
    matches = [hmac.compare_digest(one.encode(), expected.encode()) for one in given]
    if not any(matches):
        return SignatureVerdict.INVALID
    if not has_time or time is None:
        return SignatureVerdict.VALID
    if not time.isascii() or not time.isdigit() or len(time) > 12:
        return SignatureVerdict.INVALID
    is_late = abs(now.timestamp() - int(time)) > tolerance_s
    return SignatureVerdict.EXPIRED if is_late else SignatureVerdict.VALID


def _digest(algorithm: str, key: bytes, signed: bytes) -> bytes:
    return hmac.new(key, signed, _DIGESTS[algorithm]).digest()


def _encode(digest: bytes, encoding: str) -> str:
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()


def standard_key(secret: str) -> bytes:
    """Return the key of a secret of Standard Webhooks. One that is no base64 is the key itself."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return secret.encode()


def _without(text: str, prefix: str) -> str:
    return text.removeprefix(prefix) if text.startswith(prefix) else ""


def _stripe_id(body: bytes) -> str | None:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    id = event.get("id") if isinstance(event, dict) else None
    return id if isinstance(id, str) else None


def parse_body(config: WebhookConfig, message: WebhookMessage) -> JSON:
    """Read the body of a message. Raises BadMessage."""
    kind, content_type = config.content, message.content_type
    if kind == "auto":
        is_json = content_type == "application/json" or content_type.endswith("+json")
        kind = "json" if is_json else "form" if content_type == "application/x-www-form-urlencoded" else "raw"
    try:
        return _READERS[kind](message.body)
    except NotJson as error:
        raise BadMessage(f"the body {error}") from error


def _read_form(body: bytes) -> JSON:
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except UnicodeDecodeError as error:
        raise BadMessage(f"the body is no form: byte {error.start} is not UTF-8") from error
    except ValueError as error:
        raise BadMessage(f"the body is a form with more than {MAX_FORM_FIELDS:,} fields") from error
    return {name: values[0] if len(values) == 1 else list(values) for name, values in fields.items()}


def _read_raw(body: bytes) -> JSON:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


_READERS: Mapping[str, Any] = {"json": parse_json, "form": _read_form, "raw": _read_raw}


def event_of(message: WebhookMessage, id: str | None, body: JSON, now: datetime) -> dict[str, JSON]:
    """Return the event of a message. Raises BadMessage for values that cannot be stored."""
    event: dict[str, JSON] = {
        "id": id,
        "method": message.method,
        "headers": {name: value for name, value in message.headers.items() if name not in HIDDEN_HEADERS},
        "query": dict(message.query),
        "contentType": message.content_type or None,
        "body": body,
        "receivedAt": format_timestamp(now),
    }
    try:
        stored: dict[str, JSON] = stored_form(event)
    except NotStorable as error:
        raise BadMessage(str(error)) from error
    return stored


def message_key(config: WebhookConfig, id: str | None, message: WebhookMessage, event: JSON) -> str | None:
    """Return what identifies a message; None if nothing does. Raises BadMessage."""
    if config.dedupe is None:
        return id
    if config.dedupe.header is not None:
        return message.headers.get(config.dedupe.header.lower())
    try:
        value = evaluator.render(config.dedupe.template, {"event": event})
    except ExpressionError as error:
        raise BadMessage(f"`dedupe.template` of the trigger cannot be rendered: {error}") from error
    if not isinstance(value, str | int) or value == "":
        raise BadMessage("`dedupe.template` of the trigger gives no text and no whole number for this message")
    return str(value)
