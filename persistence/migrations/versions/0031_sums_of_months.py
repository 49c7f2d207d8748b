"""Add the sums of months to the statistics.

A row of a month is open (its counts are null) or summed. Database triggers open it in the transaction
that changes one of its days, whichever release does it. So a summed month always equals its days.
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_MONTHS_OF = """
SELECT DISTINCT project_id, workflow_id, node_id, date_trunc('month', start, 'UTC') AS start
FROM {rows} WHERE unit = 'DAY'
"""
_OPEN = """
INSERT INTO run_sums (project_id, workflow_id, unit, start, node_id, counts)
SELECT project_id, workflow_id, 'MONTH', start, node_id, NULL FROM ({months}) months
ON CONFLICT DO NOTHING
"""
_FUNCTION = f"""
CREATE FUNCTION open_months() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    UPDATE run_sums s SET counts = NULL FROM ({_MONTHS_OF.format(rows="changed")}) m
    WHERE s.project_id = m.project_id AND s.workflow_id = m.workflow_id AND s.unit = 'MONTH' AND s.start = m.start
        AND s.node_id = m.node_id AND s.counts IS NOT NULL;
    {_OPEN.format(months=_MONTHS_OF.format(rows="changed"))};
    RETURN NULL;
END $body$
"""
# The depth keeps the changes of months that the function makes from calling it again.
_TRIGGER = """
CREATE TRIGGER months_of_{event} AFTER {event} ON run_sums REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION open_months()
"""
_EVENTS = ("insert", "update")


def upgrade() -> None:
    op.alter_column("run_sums", "counts", nullable=True)
    op.execute("CREATE INDEX ix_run_sums_open ON run_sums (start) WHERE counts IS NULL")
    op.execute(_OPEN.format(months=_MONTHS_OF.format(rows="run_sums")))
    op.get_bind().exec_driver_sql(_FUNCTION)
    for event in _EVENTS:
        op.execute(_TRIGGER.format(event=event))


def downgrade() -> None:
    for event in _EVENTS:
        op.execute(f"DROP TRIGGER months_of_{event} ON run_sums")
    op.execute("DROP FUNCTION open_months()")
    op.execute("DELETE FROM run_sums WHERE unit = 'MONTH'")
    op.execute("DROP INDEX ix_run_sums_open")
    op.alter_column("run_sums", "counts", nullable=False)
