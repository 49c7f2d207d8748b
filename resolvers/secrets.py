"""Secrets: named by everybody who sees the project, set and deleted by those who may edit it, read back by nobody.

What a caller gives as a value is in no answer, no error and no line of the log.
"""

import re
from collections.abc import Iterator

from engine.graph.bound_node import bind_nodes
from engine.problems import FieldProblem
from engine.spec.parser import parse
from engine.types import JSON
from engine.values.redaction import MIN_LENGTH, register_secret
from persistence.caller import Role
from persistence.problems import Forbidden, Invalid, Unavailable
from persistence.secrets import store
from persistence.secrets.key_source import SETTING
from persistence.secrets.keyring import KeyProblem, Keyring
from persistence.secrets.resolver import SecretValues
from persistence.secrets.store import Secret
from resolvers.authorise import project_for, require
from resolvers.context import Context

MAX_NAME = 100
MAX_VALUE_BYTES = 8 * 1024
"""Certificates and the keys of service accounts fit; every form of it is looked for in whatever its nodes tell."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


async def secrets_of(context: Context, project_id: str | None) -> list[Secret]:
    """By name; of every project of the caller where none is named. Raises NotFound."""
    if project_id is not None:
        require(context.caller, Role.VIEWER, project_id)
    projects = context.caller.projects if project_id is None else [project_id]
    async with context.database.connect() as connection:
        return await store.of_projects(connection, context.caller, projects)


async def set_secret(context: Context, project_id: str | None, name: str, value: str) -> Secret:
    """New or not. Raises NotFound, Forbidden, Invalid, Limit, Unavailable."""
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, Role.EDITOR, project_id)
        if problems := [*_wrong_name(name), *_wrong_value(value)]:
            raise Invalid(problems)
        register_secret(value)
        try:
            return await store.put(connection, context.caller, _keyring(context), chosen, name, value)
        except KeyProblem as wrong:
            raise Unavailable(f"No secret can be encrypted here: {wrong}; `treadle doctor` tells more.") from wrong


async def delete_secret(context: Context, project_id: str | None, name: str) -> str:
    """Its id. Raises NotFound, Forbidden."""
    async with context.database.begin() as connection:
        chosen = await project_for(connection, context.caller, Role.EDITOR, project_id)
        return await store.remove(connection, context.caller, chosen, name)


def check_use(context: Context, project_id: str, spec: JSON) -> None:
    """For what a caller has written and nobody has saved, and is known to be valid: it could send a value anywhere.

    Raises Forbidden.
    """
    if context.caller.may(Role.EDITOR, project_id):
        return
    if any(work.secrets for work in bind_nodes(parse(spec), context.node_types).values()):
        told = "Using secrets in a spec or a node of one's own takes the role editor in the project"
        raise Forbidden(f"{told}; workflows that editors have saved may use them for everybody who runs them.")


def _keyring(context: Context) -> Keyring:
    found: SecretValues | None = context.resources.get("secrets")
    if found is None:
        raise KeyProblem("this process has no keys")
    ring = found.keys.ring()
    if ring.current is None:
        raise KeyProblem(f"there is no key: bring back {found.keys.path}, or set {SETTING}")
    return ring


def _wrong_name(name: str) -> Iterator[FieldProblem]:
    # The name is not repeated: somebody may have mistaken the one field for the other.
    if not 1 <= len(name) <= MAX_NAME:
        yield FieldProblem("input.name", "LENGTH", f"must have 1 to {MAX_NAME} characters, has {len(name):,}")
    elif not _NAME.fullmatch(name):
        told = (
            "must be letters, digits and `_`, not beginning with a digit: templates ask for it as `{{ secrets.name }}`"
        )
        yield FieldProblem("input.name", "NAME", told)


def _wrong_value(value: str) -> Iterator[FieldProblem]:
    size = len(value.encode())
    if not value:
        yield FieldProblem("input.value", "EMPTY", "must not be empty; deleteSecret takes a secret away")
    elif len(value.strip()) < MIN_LENGTH:
        told = f"must have at least {MIN_LENGTH} characters: a shorter one could not be told from other text and hidden"
        yield FieldProblem("input.value", "LENGTH", told)
    elif size > MAX_VALUE_BYTES:
        yield FieldProblem("input.value", "TOO_LARGE", f"must have at most {MAX_VALUE_BYTES:,} bytes, has {size:,}")
