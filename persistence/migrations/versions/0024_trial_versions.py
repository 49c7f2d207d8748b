"""Add trial versions, which use up no number, and the name and note of versions."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("name", sa.Text()))
    op.add_column("versions", sa.Column("note", sa.Text()))
    op.drop_constraint("uq_versions_workflow_id_number", "versions")
    # After a downgrade, content may have two versions: the trial version has got a number. It becomes a
    # trial version again.
    op.execute("""
        UPDATE versions SET number = 0 FROM (
            SELECT id, row_number() OVER (
                PARTITION BY workflow_id, spec_hash ORDER BY status <> 'PUBLISHED', status = 'DRAFT', number) AS place
            FROM versions WHERE workflow_id IS NOT NULL
        ) ordered WHERE ordered.id = versions.id AND ordered.place > 1
    """)
    op.execute("CREATE INDEX ix_versions_workflow_id_id ON versions (workflow_id, id)")
    op.execute("CREATE UNIQUE INDEX uq_versions_numbered ON versions (workflow_id, number) WHERE number > 0")
    op.execute("CREATE UNIQUE INDEX uq_versions_content ON versions (workflow_id, spec_hash) WHERE number > 0")
    op.execute(
        "CREATE UNIQUE INDEX uq_versions_trial ON versions (workflow_id, spec_hash)"
        " WHERE number = 0 AND workflow_id IS NOT NULL"
    )
    # After a downgrade it is an index.
    op.execute("ALTER TABLE versions DROP CONSTRAINT IF EXISTS uq_versions_workflow_id_spec_hash")
    op.execute("DROP INDEX IF EXISTS uq_versions_workflow_id_spec_hash")


def downgrade() -> None:
    for name in ("uq_versions_trial", "uq_versions_content", "uq_versions_numbered", "ix_versions_workflow_id_id"):
        op.drop_index(name, "versions")
    # Trial versions get numbers, after all others of their workflow.
    op.execute("""
        UPDATE versions SET number = numbered.number FROM (
            SELECT v.id, row_number() OVER (PARTITION BY v.workflow_id ORDER BY v.id)
                + (SELECT max(o.number) FROM versions o WHERE o.workflow_id = v.workflow_id) AS number
            FROM versions v WHERE v.number = 0 AND v.workflow_id IS NOT NULL
        ) numbered WHERE numbered.id = versions.id
    """)
    op.create_unique_constraint("uq_versions_workflow_id_number", "versions", ["workflow_id", "number"])
    # Content that has both kinds of version cannot have the former constraint of one version each.
    op.create_index("uq_versions_workflow_id_spec_hash", "versions", ["workflow_id", "spec_hash"])
    op.drop_column("versions", "note")
    op.drop_column("versions", "name")
