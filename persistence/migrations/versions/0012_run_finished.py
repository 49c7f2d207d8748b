"""Add the database trigger that fires triggers of the kind run_finished when a run ends.

It runs in the transaction that ends the run, whichever code that is: the journal, a cancel, a rescue
or a deadline. Triggers are locked as the foreign key does, so that one that is being deleted is left
out instead of failing the end of the run. Chains of such triggers end at a depth of 10.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_FUNCTION = """
CREATE FUNCTION add_run_finished() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
    chain integer;
BEGIN
    IF NOT EXISTS (
        SELECT FROM triggers t WHERE t.project_id = NEW.project_id AND t.kind = 'run_finished' AND t.enabled
    ) THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(max((e.payload->>'depth')::integer), 0) + 1 INTO chain
        FROM trigger_events e JOIN triggers t ON t.id = e.trigger_id AND t.kind = 'run_finished'
        WHERE e.run_id = NEW.id AND e.status = 'FIRED' AND e.payload->>'depth' ~ '^[0-9]{1,3}$';
    IF chain > 10 THEN
        RETURN NULL;
    END IF;
    INSERT INTO pending_firings (trigger_id, dedupe_key, payload)
    SELECT t.id, 'run:' || NEW.id, json_build_object(
        'runId', NEW.id, 'workflowId', NEW.workflow_id, 'versionId', NEW.version_id, 'status', NEW.status,
        'message', NEW.status_message, 'code', NEW.error->>'code', 'error', NEW.error, 'source', NEW.source,
        'createdBy', NEW.created_by, 'createdAt', to_char(NEW.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'finishedAt', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'depth', chain)
    FROM triggers t
    WHERE t.project_id = NEW.project_id AND t.kind = 'run_finished' AND t.enabled
        AND t.id IS DISTINCT FROM NEW.trigger_id
        AND CASE WHEN t.config->>'workflowId' IS NULL THEN NEW.parent_id IS NULL
            ELSE t.config->>'workflowId' = NEW.workflow_id END
        AND coalesce((t.config->'statuses')::jsonb, '["FAILED"]') ? NEW.status
        AND CASE WHEN coalesce((t.config->'codes')::jsonb, '[]') = '[]' THEN true
            ELSE coalesce((t.config->'codes')::jsonb ? (NEW.error->>'code'), false) END
    FOR KEY SHARE OF t
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $body$
"""
_TRIGGER = """
CREATE TRIGGER run_finished AFTER UPDATE OF status ON runs FOR EACH ROW
WHEN (NEW.status IN ('CANCELLED', 'COMPLETED', 'FAILED') AND OLD.status NOT IN ('CANCELLED', 'COMPLETED', 'FAILED'))
EXECUTE FUNCTION add_run_finished()
"""


def upgrade() -> None:
    op.execute(
        "CREATE INDEX ix_triggers_run_finished ON triggers (project_id) WHERE enabled AND kind = 'run_finished'"
    )
    op.get_bind().exec_driver_sql(_FUNCTION)
    op.execute(_TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER run_finished ON runs")
    op.execute("DROP FUNCTION add_run_finished()")
    op.drop_index("ix_triggers_run_finished", "triggers")
