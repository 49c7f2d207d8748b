"""Secrets: viewers list them, editors set and delete them, and no caller can read a value.

A value that a caller sends appears in no response, error or log line.
"""

import asyncio
import re
from collections.abc import Iterator
from hashlib import scrypt

from engine.graph.bound_node import bind_nodes
from engine.problems import FieldProblem
from engine.spec.parser import parse
from engine.types import JSON
from engine.values.redaction import MIN_LENGTH, register_secret
from persistence.audit_log import record
from persistence.problems import Forbidden, Invalid, Unavailable
from persistence.secrets import store
from persistence.secrets.key_source import SETTING
from persistence.secrets.keyring import KeyProblem, Keyring
from persistence.secrets.resolver import SecretResolver
from persistence.secrets.store import Secret
from resolvers.authorise import project_for, require
from resolvers.context import Context
from resolvers.permissions import MUTATIONS, QUERIES, USE_SECRETS_UNSAVED

MAX_NAME = 100
MAX_VALUE_BYTES = 8 * 1024
"""Large enough for certificates and service account keys. Every encoding of a value is searched
for in the output of nodes."""
MIN_DISTINCT = 4
"""Different characters of a value. Texts that repeat a character would look like a secret."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


async def secrets_of(context: Context, project_id: str | None) -> list[Secret]:
    """Return the secrets of a project by name; of all projects of the caller if it is None.

    Raises NotFound.
    """
    if project_id is not None:
        require(context.caller, QUERIES["secrets"], project_id)
    projects = context.caller.projects if project_id is None else [project_id]
    async with context.read() as connection:
        return await store.list_by_name(connection, context.caller, projects)


async def set_secret(context: Context, project_id: str | None, name: str, value: str) -> Secret:
    """Create a secret or replace its value.

    Args:
        context: The caller and the stores.
        project_id: The project; None for the default project of the caller.
        name: The name that templates use.
        value: The plain value. It is encrypted before it is stored.

    Raises:
        NotFound, Forbidden: The caller has no role in the project, or a lower one than editor.
        Invalid: Name or value is out of range.
        Limit: The project has too many secrets.
        Unavailable: This process has no key to encrypt with.
    """
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, MUTATIONS["setSecret"], project_id)
        if problems := [*_name_problems(name), *_value_problems(value)]:
            raise Invalid(problems)
        register_secret(value)
        try:
            secret = await store.put(connection, context.caller, _keyring(context), chosen, name, value)
        except KeyProblem as error:
            message = f"This server cannot encrypt secrets: {error}. Run `treadle doctor` for details."
            raise Unavailable(message) from error
        before = None if secret.created_at == secret.updated_at else {"name": name}
        await record(connection, context.caller, "setSecret", chosen, secret.id, before=before, after={"name": name})
        return secret


async def delete_secret(context: Context, project_id: str | None, name: str) -> str:
    """Delete a secret and return its id. Raises NotFound, Forbidden."""
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, MUTATIONS["deleteSecret"], project_id)
        secret_id = await store.remove(connection, context.caller, chosen, name)
        await record(connection, context.caller, "deleteSecret", chosen, secret_id, before={"name": name})
        return secret_id


async def slow_hash(value: str, salt: str) -> str:
    """Return a hash of a value that takes about 50 ms, so that a value cannot be found by trying many."""
    hashed = await asyncio.to_thread(scrypt, value.encode("utf-8", "replace"), salt=salt.encode(), n=1 << 14, r=8, p=1)
    return hashed.hex()


UNSAVED = (
    "An unsaved spec or node that uses secrets requires the role editor in the project. "
    "A workflow that an editor has saved may use them for every runner."
)
OTHER_OUTPUTS = (
    "A fork with a `patch`, or of another version, requires the role editor in the project if its version uses "
    "secrets: the outputs decide where a node sends them. Fork without both, or start a run."
)


def check_use(context: Context, project_id: str, spec: JSON, refusal: str = UNSAVED) -> None:
    """Check that the caller may run a valid spec in a way that no editor has saved.

    Such a spec can send the value of a secret anywhere, so it needs the role editor.

    Raises:
        Forbidden: The spec uses secrets, and the caller has a lower role than editor. `refusal` is the
            message.
    """
    if context.caller.may(USE_SECRETS_UNSAVED, project_id):
        return
    if any(node.secrets for node in bind_nodes(parse(spec), context.node_types).values()):
        raise Forbidden(refusal)


def _keyring(context: Context) -> Keyring:
    values: SecretResolver | None = context.resources.get("secrets")
    if values is None:
        raise KeyProblem("this process has no keys")
    ring = values.keys.keyring()
    if ring.current is None:
        raise KeyProblem(f"there is no key: restore {values.keys.path}, or set {SETTING}")
    return ring


def _name_problems(name: str) -> Iterator[FieldProblem]:
    # The message does not quote the name: the caller may have put the value into the wrong field.
    if not 1 <= len(name) <= MAX_NAME:
        yield FieldProblem("input.name", "LENGTH", f"must have 1 to {MAX_NAME} characters, has {len(name):,}")
    elif not _NAME.fullmatch(name):
        message = (
            "must be letters, digits and `_`, not beginning with a digit: templates use it as `{{ secrets.name }}`"
        )
        yield FieldProblem("input.name", "NAME", message)


def _value_problems(value: str) -> Iterator[FieldProblem]:
    size = len(value.encode())
    if not value:
        yield FieldProblem("input.value", "EMPTY", "must not be empty; deleteSecret deletes a secret")
    elif len(value.strip()) < MIN_LENGTH:
        message = f"must have at least {MIN_LENGTH} characters: a shorter value cannot be redacted from other text"
        yield FieldProblem("input.value", "LENGTH", message)
    elif size > MAX_VALUE_BYTES:
        yield FieldProblem("input.value", "TOO_LARGE", f"must have at most {MAX_VALUE_BYTES:,} bytes, has {size:,}")
    elif len(set(value)) < MIN_DISTINCT:
        message = f"must have at least {MIN_DISTINCT} different characters: repeated ones occur in other text"
        yield FieldProblem("input.value", "TOO_UNIFORM", message)
