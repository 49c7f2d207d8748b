"""Add the outbox of analytics events.

The end of a run now has the id, the mode and the source of the run: folding makes the event of them.
Database triggers add the events of workflows and versions in the transactions of the changes, whichever
code makes them.
"""

from importlib import import_module

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

# The function as migration 0027 has it. Migrations do not change, so this one may use its text.
_ALERT_RULES = import_module("persistence.migrations.versions.0027_alert_rules")
_RECORD, _BEFORE = _ALERT_RULES._RECORD, _ALERT_RULES._NOW
_NOW = {
    "columns": f"{_BEFORE['columns']}, run_id, mode, source",
    "values": f"{_BEFORE['values']}, NEW.id, NEW.mode, NEW.source",
}
_EVENTS = """
CREATE TABLE analytics_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    data json NOT NULL,
    delivered text[] NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now()
)
"""
_WORKFLOW_FUNCTION = """
CREATE FUNCTION add_workflow_created() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO analytics_events (project_id, type, data) VALUES (NEW.project_id, 'workflow_created',
        json_build_object('workflowId', NEW.id));
    RETURN NULL;
END $body$
"""
_VERSION_FUNCTION = """
CREATE FUNCTION add_version_published() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO analytics_events (project_id, type, data) VALUES (NEW.project_id, 'workflow_version_published',
        json_build_object('workflowId', NEW.workflow_id, 'versionId', NEW.id, 'version', NEW.number));
    RETURN NULL;
END $body$
"""
# As in migration 0029, for the reads of callers.
_POLICY = """
CREATE POLICY of_caller ON analytics_events USING (
    project_id IN (SELECT unnest(string_to_array(current_setting('treadle.projects', true), ',')))
    OR NOT current_user::text ^@ 'treadle_reader'
)
"""
_TRIGGERS = (
    "CREATE TRIGGER analytics AFTER INSERT ON workflows FOR EACH ROW EXECUTE FUNCTION add_workflow_created()",
    "CREATE TRIGGER analytics AFTER INSERT ON versions FOR EACH ROW WHEN (NEW.status = 'PUBLISHED') "
    "EXECUTE FUNCTION add_version_published()",
    "CREATE TRIGGER analytics_update AFTER UPDATE OF status ON versions FOR EACH ROW "
    "WHEN (NEW.status = 'PUBLISHED' AND OLD.status <> 'PUBLISHED') EXECUTE FUNCTION add_version_published()",
)


def upgrade() -> None:
    op.execute(_EVENTS)
    op.execute("CREATE INDEX ix_analytics_events_next_attempt_at ON analytics_events (next_attempt_at, id)")
    op.execute(_POLICY)
    op.execute("ALTER TABLE analytics_events ENABLE ROW LEVEL SECURITY")
    op.execute(
        'ALTER TABLE run_ends ADD COLUMN run_id text COLLATE "C", ADD COLUMN mode text, ADD COLUMN source text'
    )
    for statement in (_RECORD % _NOW, _WORKFLOW_FUNCTION, _VERSION_FUNCTION, *_TRIGGERS):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    for name, table in (("analytics_update", "versions"), ("analytics", "versions"), ("analytics", "workflows")):
        op.execute(f"DROP TRIGGER {name} ON {table}")
    op.execute("DROP FUNCTION add_version_published()")
    op.execute("DROP FUNCTION add_workflow_created()")
    op.get_bind().exec_driver_sql(_RECORD % _BEFORE)
    op.execute("ALTER TABLE run_ends DROP COLUMN run_id, DROP COLUMN mode, DROP COLUMN source")
    op.drop_table("analytics_events")
