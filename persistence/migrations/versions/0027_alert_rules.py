"""Add alert rules, their counters, and the trigger that reports their changes of state.

The end of a run now has the tags of the run and whether it is a child run: rules choose by them. The
message of a change is written in its transaction, as those of runs are (0021).
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_RULES = """
CREATE TABLE alert_rules (
    id text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name text NOT NULL,
    metric text NOT NULL,
    threshold double precision NOT NULL,
    resolve_threshold double precision NOT NULL,
    window_s integer NOT NULL,
    for_s integer NOT NULL,
    min_runs integer NOT NULL,
    workflow_ids text[] NOT NULL,
    tags text[] NOT NULL,
    enabled boolean NOT NULL,
    state text NOT NULL DEFAULT 'OK',
    value double precision,
    state_since timestamptz NOT NULL DEFAULT now(),
    crossed_at timestamptz,
    counting_since timestamptz NOT NULL DEFAULT now(),
    evaluate_at timestamptz NOT NULL DEFAULT now(),
    evaluated_at timestamptz,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
)
"""
_SUMS = """
CREATE TABLE alert_sums (
    rule_id text COLLATE "C" REFERENCES alert_rules (id) ON DELETE CASCADE,
    start timestamptz,
    counts json NOT NULL,
    PRIMARY KEY (rule_id, start)
)
"""
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
_BEFORE = {"columns": "", "values": ""}
_NOW = {"columns": ", tags, is_child", "values": ", NEW.tags, NEW.parent_id IS NOT NULL"}
_FUNCTION = """
CREATE FUNCTION add_deliveries_of_alert() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO deliveries (id, project_id, endpoint_id, event, subject_id, payload)
    SELECT new_type_id('dlv'), NEW.project_id, e.id, 'ALERT', NEW.id, json_build_object(
        'type', CASE NEW.state WHEN 'FIRING' THEN 'alert.firing' ELSE 'alert.resolved' END,
        'timestamp', rfc3339(now()), 'data', json_build_object(
            'ruleId', NEW.id, 'projectId', NEW.project_id, 'name', NEW.name, 'metric', NEW.metric,
            'state', NEW.state, 'value', NEW.value, 'threshold', NEW.threshold,
            'resolveThreshold', NEW.resolve_threshold, 'windowS', NEW.window_s, 'workflowIds', NEW.workflow_ids,
            'tags', NEW.tags, 'previousSince', rfc3339(OLD.state_since)))
    FROM endpoints e
    WHERE e.project_id = NEW.project_id AND e.enabled AND 'ALERT' = ANY(e.events)
        AND (e.workflow_ids = '{}' OR NEW.workflow_ids && e.workflow_ids) AND e.tags <@ NEW.tags
    FOR KEY SHARE OF e;
    RETURN NULL;
END $body$
"""
_TRIGGER = """
CREATE TRIGGER deliveries AFTER UPDATE OF state ON alert_rules FOR EACH ROW
WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION add_deliveries_of_alert()
"""


def upgrade() -> None:
    op.execute(_RULES)
    op.execute("CREATE INDEX ix_alert_rules_project_id_id ON alert_rules (project_id, id)")
    op.execute("CREATE INDEX ix_alert_rules_due ON alert_rules (evaluate_at) WHERE enabled")
    op.execute(_SUMS)
    op.execute(
        "ALTER TABLE run_ends ADD COLUMN tags text[] NOT NULL DEFAULT '{}', "
        "ADD COLUMN is_child boolean NOT NULL DEFAULT false"
    )
    for statement in (_RECORD % _NOW, _FUNCTION, _TRIGGER):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.drop_table("alert_sums")
    op.drop_table("alert_rules")
    op.execute("DROP FUNCTION add_deliveries_of_alert()")
    op.get_bind().exec_driver_sql(_RECORD % _BEFORE)
    op.execute("ALTER TABLE run_ends DROP COLUMN tags, DROP COLUMN is_child")
