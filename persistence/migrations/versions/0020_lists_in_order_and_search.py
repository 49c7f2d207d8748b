"""Add the indexes of lists by end and by duration, and of the search of errors.

The extension pg_trgm comes with Postgres, and a role with the right CREATE on the database may create
it. Where that is not possible, the search of errors works without its index; see decision 58.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_TRIGRAMS = """
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX ix_runs_error_text ON runs USING gin (lower((error->>'code') || ' ' || (error->>'message')) gin_trgm_ops)
        WHERE error IS NOT NULL;
EXCEPTION
    WHEN insufficient_privilege OR undefined_file OR undefined_object OR feature_not_supported THEN
        RAISE WARNING 'Treadle: pg_trgm cannot be created (%), so the search of runs has no index', SQLERRM;
END $$
"""

_STATISTICS = {
    "duration": "finished_at - started_at",
    "error_code": "error->>'code'",
    "error_text": "lower((error->>'code') || ' ' || (error->>'message'))",
}
"""The planner does not use the statistics of the expressions of partial indexes."""


def upgrade() -> None:
    op.execute(
        "CREATE INDEX ix_runs_project_id_finished_at ON runs (project_id, finished_at, id) WHERE finished_at IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX ix_runs_project_id_duration ON runs (project_id, (finished_at - started_at), id) "
        "WHERE finished_at IS NOT NULL AND started_at IS NOT NULL"
    )
    op.execute(_TRIGRAMS)
    for name, expression in _STATISTICS.items():
        op.execute(f"CREATE STATISTICS st_runs_{name} ON ({expression}) FROM runs")


def downgrade() -> None:
    for name in _STATISTICS:
        op.execute(f"DROP STATISTICS st_runs_{name}")
    op.execute("DROP INDEX IF EXISTS ix_runs_error_text")
    for name in ("duration", "finished_at"):
        op.drop_index(f"ix_runs_project_id_{name}", "runs")
