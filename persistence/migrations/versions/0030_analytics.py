"""Add the outbox of analytics events.

The end of a run now has the id, the mode and the source of the run: folding makes the event of them.
Database triggers add the events of workflows and versions in the transactions of the changes, whichever
code makes them.
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_RECORD = """
CREATE OR REPLACE FUNCTION record_run_end() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    states json;
    tokens_in numeric;
    tokens_out numeric;
    cost numeric;
    has_loop boolean;
BEGIN
    SELECT json_agg(json_build_array(node_id, status, 1000 * extract(epoch FROM completed_at - started_at))),
        sum((usage->>'input_tokens')::numeric), sum((usage->>'output_tokens')::numeric),
        sum((usage->>'cost_usd')::numeric), bool_or(usage IS NOT NULL) AND max(visits) > 1
        INTO states, tokens_in, tokens_out, cost, has_loop
        FROM node_states WHERE run_id = NEW.id AND started_at IS NOT NULL;
    IF has_loop THEN
        SELECT sum((body->'usage'->>'input_tokens')::numeric), sum((body->'usage'->>'output_tokens')::numeric),
            sum((body->'usage'->>'cost_usd')::numeric) INTO tokens_in, tokens_out, cost
            FROM events WHERE run_id = NEW.id AND type = 'NODE_STATE' AND body->'usage' IS NOT NULL
                AND coalesce(body->>'status', 'COMPLETED') IN ('COMPLETED', 'FAILED', 'CANCELLED');
    END IF;
    INSERT INTO run_ends (project_id, workflow_id, finished_at, status, code, duration_ms, queue_ms, input_tokens,
        output_tokens, cost, nodes%(columns)s)
    VALUES (NEW.project_id, NEW.workflow_id, NEW.finished_at, NEW.status, NEW.error->>'code',
        1000 * extract(epoch FROM NEW.finished_at - NEW.started_at),
        CASE WHEN NEW.queued_at <= NEW.started_at THEN 1000 * extract(epoch FROM NEW.started_at - NEW.queued_at) END,
        least(greatest(round(tokens_in), 0), 1e15), least(greatest(round(tokens_out), 0), 1e15),
        least(greatest(round(cost * 1e9), 0), 1e15), states%(values)s);
    RETURN NULL;
END $$
"""
_BEFORE = {"columns": ", tags, is_child", "values": ", NEW.tags, NEW.parent_id IS NOT NULL"}
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
