"""Encrypts and decrypts secrets with AES-256-GCM (NIST SP 800-38D). No I/O.

Every encryption uses a fresh nonce. The id of a key is a hash of it, and each secret is stored with
the id of the key that it needs.
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
FORMAT = "32 random bytes in base64: `openssl rand -base64 32` makes one"


class KeyProblem(Exception):
    """Keys that cannot be used. The message is one line, without the key."""


class DecryptionError(Exception):
    """The key is missing, or the stored bytes were changed. The message continues a sentence."""


@dataclass(frozen=True, slots=True)
class Key:
    """An AES key and its id."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> "Key":
        return cls(hashlib.sha256(b"treadle key id\0" + secret).hexdigest()[:12], secret)

    @classmethod
    def new(cls) -> "Key":
        """Make a random key."""
        return cls.of(os.urandom(KEY_BYTES))

    @property
    def text(self) -> str:
        """The key in base64, as the key file holds it."""
        return base64.b64encode(self.secret).decode()


def parse_keys(texts: Iterable[str], where: str) -> Iterator[Key]:
    """Parse keys in base64, in the standard or the URL-safe alphabet, with or without padding.

    Raises:
        KeyProblem: A text is no key. The message names `where`, and does not repeat the text.
    """
    for number, text in enumerate(texts, 1):
        try:
            plain = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
            secret = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_BYTES:
            raise KeyProblem(f"{where}: key {number} is not {FORMAT}")
        yield Key.of(secret)


@dataclass(frozen=True, slots=True)
class Keyring:
    """Encrypts under the first of its keys, and decrypts under any of them."""

    keys: tuple[Key, ...] = ()

    @property
    def current(self) -> Key | None:
        return self.keys[0] if self.keys else None

    @property
    def ids(self) -> list[str]:
        return [key.id for key in self.keys]

    def encrypt(self, value: str, associated_data: str) -> tuple[str, bytes]:
        """Encrypt a value.

        Args:
            value: The plain text.
            associated_data: Needed again for decryption: under any other text it fails.

        Returns:
            The id of the key, and the nonce followed by the ciphertext.

        Raises:
            KeyProblem: There is no key.
        """
        if self.current is None:
            raise KeyProblem("there is no key for encryption")
        nonce = os.urandom(NONCE_BYTES)
        data = AESGCM(self.current.secret).encrypt(nonce, value.encode(), associated_data.encode())
        return self.current.id, nonce + data

    def decrypt(self, key_id: str, data: bytes, associated_data: str) -> str:
        """Decrypt what `encrypt` returned. Raises DecryptionError."""
        key = next((key for key in self.keys if key.id == key_id), None)
        if key is None:
            raise DecryptionError(f"it was encrypted under the key {key_id}, which this host does not have")
        nonce, ciphertext = data[:NONCE_BYTES], data[NONCE_BYTES:]
        try:
            return AESGCM(key.secret).decrypt(nonce, ciphertext, associated_data.encode()).decode()
        except (InvalidTag, ValueError):
            raise DecryptionError(
                f"the stored value is not the one that was encrypted under the key {key_id}"
            ) from None
