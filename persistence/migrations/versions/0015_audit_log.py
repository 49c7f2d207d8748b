"""Add the audit log, which a trigger protects from changes.

Its owner may delete old entries, in a transaction with `SET LOCAL treadle.audit_retention = 'on'`. So
nobody does it by mistake, and no other role can. Entries do not refer to their project: they stay.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE audit_log (
    id text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    subject text NOT NULL,
    action text NOT NULL,
    resource_id text COLLATE "C",
    address text,
    before json,
    after json
)
"""
_REFUSE = """
CREATE FUNCTION refuse_change_of_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('treadle.audit_retention', true) = 'on' AND EXISTS (
        SELECT FROM pg_class WHERE oid = TG_RELID AND pg_has_role(current_user, relowner, 'USAGE')
    ) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege',
        HINT = 'Its owner deletes old entries after SET LOCAL treadle.audit_retention = ''on''.';
END $$
"""


def upgrade() -> None:
    op.execute(_TABLE)
    op.execute("CREATE INDEX ix_audit_log_project_id_id ON audit_log (project_id, id)")
    op.execute("CREATE INDEX ix_audit_log_resource_id_id ON audit_log (resource_id, id)")
    op.execute(_REFUSE)
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_log()"
    )


def downgrade() -> None:
    op.drop_table("audit_log")
    op.execute("DROP FUNCTION refuse_change_of_audit_log()")
