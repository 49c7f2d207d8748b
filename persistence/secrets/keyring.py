"""The keys that secrets are encrypted under, and the encryption: AES-256-GCM with a fresh nonce each time. Pure.

A key is known by its id, a hash of it, so that each secret says which key it needs.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES, NONCE_BYTES = 32, 12
HOW = "32 random bytes in base64: `openssl rand -base64 32` makes one"


class KeyProblem(Exception):
    """Keys that cannot be used; reads as one line, without the key."""


class Undecryptable(Exception):
    """Its key is not here, or what is stored is not what was encrypted; the message ends a sentence."""


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> "Key":
        return cls(hashlib.sha256(b"treadle key id\0" + secret).hexdigest()[:12], secret)

    @classmethod
    def new(cls) -> "Key":
        return cls.of(os.urandom(KEY_BYTES))

    @property
    def text(self) -> str:
        return base64.b64encode(self.secret).decode()


def parse_keys(texts: Iterable[str], where: str) -> Iterator[Key]:
    """Raises KeyProblem. `where` is named in it."""
    for number, text in enumerate(texts, 1):
        try:
            plain = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
            secret = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise KeyProblem(f"{where}: key {number} is not {HOW}")
        yield Key.of(secret)


@dataclass(frozen=True, slots=True)
class Keyring:
    """Encrypts under the first of its keys, and decrypts under any."""

    keys: tuple[Key, ...] = ()

    @property
    def current(self) -> Key | None:
        return self.keys[0] if self.keys else None

    @property
    def ids(self) -> list[str]:
        return [key.id for key in self.keys]

    def encrypt(self, value: str, place: str) -> tuple[str, bytes]:
        """(key id, ciphertext), which can be decrypted at this `place` alone: moved elsewhere it is of no use."""
        if self.current is None:
            raise KeyProblem("there is no key to encrypt under")
        nonce = os.urandom(NONCE_BYTES)
        return self.current.id, nonce + AESGCM(self.current.secret).encrypt(nonce, value.encode(), place.encode())

    def decrypt(self, key_id: str, data: bytes, place: str) -> str:
        """Raises Undecryptable."""
        key = next((key for key in self.keys if key.id == key_id), None)
        if key is None:
            raise Undecryptable(f"it was encrypted under the key {key_id}, which is not here")
        try:
            return AESGCM(key.secret).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError):
            raise Undecryptable(f"what is stored is not what was encrypted under the key {key_id}") from None
