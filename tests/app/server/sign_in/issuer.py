"""An issuer of tokens on loopback: it signs with several keys and serves their key set."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa_key
from jwt.algorithms import get_default_algorithms

SECRET = "a secret of the tests, which has more than the 64 bytes that HS512 needs"
ISSUER, AUDIENCE = "https://issuer.test", "treadle"
KEYS: dict[str, Any] = {
    "RS256": new_rsa_key(65537, 2048),
    "ES256": new_ec_key(SECP256R1()),
    "EdDSA": Ed25519PrivateKey.generate(),
}
OTHER_RSA = new_rsa_key(65537, 2048)


def claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims with changes; None removes a claim."""
    now = int(time.time())
    values = {
        "sub": "ada",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 600,
        "treadle": {"default": "admin"},
        **changes,
    }
    return {name: value for name, value in values.items() if value is not None}


def token(algorithm: str = "HS256", key: Any = None, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a signed token. The key id of a key of the issuer is the name of its algorithm."""
    headers = headers if headers is not None else ({} if algorithm == "HS256" else {"kid": algorithm})
    return jwt.encode(claims(**changes), key or KEYS.get(algorithm, SECRET), algorithm, headers)


def raw_token(header: dict[str, Any] | bytes, payload: object, signature: bytes = b"") -> str:
    """Return a token whose parts no library would make."""
    parts = [
        header if isinstance(header, bytes) else json.dumps(header).encode(),
        json.dumps(payload).encode(),
        signature,
    ]
    return ".".join(map(_base64, parts))


def hs256(key: str, headers: dict[str, Any]) -> str:
    """Return a token that is signed with a text that the library would not accept as a secret."""
    signed = raw_token({"alg": "HS256", **headers}, claims()).rpartition(".")[0]
    return f"{signed}.{_base64(hmac.digest(key.encode(), signed.encode(), 'sha256'))}"


def _base64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def public_jwk(algorithm: str, key: Any, key_id: str | None = None) -> dict[str, Any]:
    data: Any = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)  # type: ignore[arg-type]
    return {**data, "kid": key_id or algorithm, "use": "sig"}


class Issuer:
    """Serves a key set. `body` is what it answers; `hangs` keeps every request open."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = [public_jwk(algorithm, key) for algorithm, key in KEYS.items()]
        self.body: bytes | None = None
        self.status = 200
        self.hangs = False
        self.requests: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(request.split(b"\r\n")[0].decode())
        if self.hangs:
            await reader.read()
        else:
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def serving_issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    async with server:
        yield issuer
