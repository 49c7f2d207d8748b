"""Add bulk jobs, which cancel, retry or delete many runs."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE bulk_jobs (
            id text COLLATE "C" PRIMARY KEY,
            project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
            action text NOT NULL,
            is_dry_run boolean NOT NULL,
            run_ids text[] NOT NULL,
            matched integer NOT NULL,
            done integer NOT NULL DEFAULT 0,
            failed integer NOT NULL DEFAULT 0,
            last_error text,
            created_by text NOT NULL,
            caller json NOT NULL,
            claimed_until timestamptz NOT NULL DEFAULT '-infinity',
            created_at timestamptz NOT NULL DEFAULT now(),
            finished_at timestamptz
        )""")
    op.create_index("ix_bulk_jobs_project_id_id", "bulk_jobs", ["project_id", "id"])
    op.execute("CREATE INDEX ix_bulk_jobs_unfinished ON bulk_jobs (id) WHERE finished_at IS NULL")


def downgrade() -> None:
    op.drop_table("bulk_jobs")
