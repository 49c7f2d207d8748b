"""The tables of secrets, API keys, the audit log and the idempotency keys of callers."""

from sqlalchemy import JSON, Column, Index, LargeBinary, Table, Text, UniqueConstraint, func

from persistence.db.tables.base import Id, Moment, metadata, project_column

# Values are AES-GCM ciphertexts, nonce first, encrypted with the key `key_id`. Only node calls see
# the plain text.
secrets = Table(
    "secrets",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("name", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_by", Text, nullable=False),
    Column("last_used_at", Moment),
    UniqueConstraint("project_id", "name"),
)

# API keys. Only the SHA-256 hash of a key is stored.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("name", Text, nullable=False),
    # The first characters of the key, to tell keys apart.
    Column("prefix", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),
    Column("revoked_at", Moment),
    Index("ix_api_keys_project_id", "project_id"),
)

# Sign-in sessions of browsers. Only the SHA-256 hash of the cookie is stored, and the refresh token is encrypted.
browser_sessions = Table(
    "browser_sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("subject", Text, nullable=False),
    Column("roles", JSON, nullable=False),
    # The end of the tokens, and of the whole session.
    Column("expires_at", Moment, nullable=False),
    Column("ends_at", Moment, nullable=False),
    Column("refresh_key_id", Text),
    Column("refresh_token", LargeBinary),
    Column("renewal_claimed_until", Moment),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    UniqueConstraint("hash", name="browser_sessions_hash_key"),
    Index("ix_browser_sessions_ends_at", "ends_at"),
)

# Who changed what. A trigger refuses to change or delete rows, so they refer to nothing.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", Id, nullable=False),
    Column("at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("subject", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("resource_id", Id),
    Column("address", Text),
    Column("before", JSON(none_as_null=True)),
    Column("after", JSON(none_as_null=True)),
    Index("ix_audit_log_project_id_id", "project_id", "id"),
    Index("ix_audit_log_resource_id_id", "resource_id", "id"),
)

# The idempotency keys of mutations that start no run. `facts` are the fields of the answer beside the object.
mutation_keys = Table(
    "mutation_keys",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    project_column(),
    Column("arguments_hash", Text, nullable=False),
    Column("resource_id", Id, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_mutation_keys_created_at", "created_at"),
    Index("ix_mutation_keys_project_id", "project_id"),
)
