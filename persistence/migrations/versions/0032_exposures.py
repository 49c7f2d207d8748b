"""Add the exposures of workflows: the names by which other systems and agents run them."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_EXPOSURES = """
CREATE TABLE exposures (
    workflow_id text COLLATE "C" PRIMARY KEY REFERENCES workflows (id) ON DELETE CASCADE,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    description text NOT NULL,
    mcp boolean NOT NULL,
    http boolean NOT NULL
)
"""
# As in migration 0029, for the reads of callers.
_POLICY = """
CREATE POLICY of_caller ON exposures USING (
    project_id IN (SELECT unnest(string_to_array(current_setting('treadle.projects', true), ',')))
    OR NOT current_user::text ^@ 'treadle_reader'
)
"""


def upgrade() -> None:
    op.execute(_EXPOSURES)
    op.execute("CREATE UNIQUE INDEX uq_exposures_name ON exposures (project_id, name)")
    op.execute(_POLICY)
    op.execute("ALTER TABLE exposures ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("exposures")
