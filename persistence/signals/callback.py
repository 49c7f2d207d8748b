"""The signed addresses of waits: `/callbacks/<token>`.

A token names a run, a node and a visit, with an HMAC (RFC 2104) under a key that is derived from a key
of secrets. Nothing is stored until the address is used. A token is valid while this host has its key.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass

import orjson

from engine.errors import NodeFailure
from persistence.caller import Caller, Role
from persistence.secrets.key_source import KeySource
from persistence.secrets.keyring import Key, KeyProblem

_CONTEXT = b"treadle callback address"
_SIGNATURE_BYTES = 32
MAX_TOKEN = 2_000


@dataclass(frozen=True, slots=True)
class Callback:
    """The visit of a node that an address belongs to."""

    run_id: str
    node_id: str
    visit: int


def callback_caller(project_id: str) -> Caller:
    """Return the caller of a request to a callback address, which may send an event to its run."""
    return Caller("callback", {project_id: Role.RUNNER})


class CallbackSigner:
    """The resource `callbacks`: makes and reads the addresses of one installation."""

    def __init__(self, keys: KeySource, public_url: str) -> None:
        """`public_url` is the address at which other systems reach the server."""
        self._keys, self._public_url = keys, public_url

    def address(self, run_id: str, node_id: str, visit: int) -> str:
        """Return the address of a visit, the same one for each call. Raises NodeFailure(CALLBACK)."""
        try:
            key = self._keys.keyring().current
        except KeyProblem as error:
            raise NodeFailure("CALLBACK", f"this host cannot sign callback addresses: {error}") from error
        if key is None:
            message = "this host has no key to sign callback addresses: set TREADLE_SECRET_KEY"
            raise NodeFailure("CALLBACK", message)
        body = orjson.dumps([run_id, node_id, visit])
        return f"{self._public_url}/callbacks/{_encode(body + _sign(key, body))}"

    def read(self, token: str) -> tuple[Callback | None, bool]:
        """Return what a token names, if it is readable, and whether its signature is valid.

        Raises KeyProblem if the keys cannot be read.
        """
        try:
            data = base64.b64decode(token[:MAX_TOKEN] + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            run_id, node_id, visit = orjson.loads(data[:-_SIGNATURE_BYTES])
        except (binascii.Error, ValueError, TypeError):
            return None, False
        if not (isinstance(run_id, str) and isinstance(node_id, str) and type(visit) is int and 0 < visit < 2**31):
            return None, False
        if "\0" in run_id + node_id or not node_id.isprintable():
            return None, False  # No run and no node has such an id, and Postgres stores no NUL character.
        body, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
        is_valid = any(hmac.compare_digest(_sign(key, body), signature) for key in self._keys.keyring().keys)
        return Callback(run_id, node_id, visit), is_valid


def _sign(key: Key, body: bytes) -> bytes:
    return hmac.digest(hmac.digest(key.secret, _CONTEXT, "sha256"), body, "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
