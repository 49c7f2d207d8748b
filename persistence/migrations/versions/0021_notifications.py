"""Add endpoints, and the outbox of deliveries that database triggers fill.

They run in the transaction that changes the status of a run or disables a trigger, whichever code that
is. One statement inserts the deliveries of all endpoints. A project without endpoints costs one look
into an index for each end of a run. Endpoints are locked as the foreign key does, so that one that is
being deleted is left out instead of failing the end of the run.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_ENDPOINTS = """
CREATE TABLE endpoints (
    id text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    url text NOT NULL,
    description text NOT NULL,
    events text[] NOT NULL,
    workflow_ids text[] NOT NULL,
    tags text[] NOT NULL,
    secret text NOT NULL,
    enabled boolean NOT NULL,
    failing_since timestamptz,
    last_error text,
    last_delivered_at timestamptz,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
)
"""
_DELIVERIES = """
CREATE TABLE deliveries (
    id text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    endpoint_id text COLLATE "C" NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    event text NOT NULL,
    subject_id text COLLATE "C" NOT NULL,
    payload json NOT NULL,
    status text NOT NULL DEFAULT 'PENDING',
    attempts integer NOT NULL DEFAULT 0,
    attempts_before integer NOT NULL DEFAULT 0,
    response_status integer,
    error text,
    next_attempt_at timestamptz DEFAULT now(),
    delivered_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""
# A TypeID: the prefix, and a UUIDv7 (RFC 9562) in 26 characters of Crockford's base32.
_TYPE_ID = """
CREATE FUNCTION new_type_id(prefix text) RETURNS text LANGUAGE sql VOLATILE AS $body$
    SELECT prefix || '_' || string_agg(
        substr('0123456789abcdefghjkmnpqrstvwxyz', substring(uuid.bits FROM i * 5 + 1 FOR 5)::bit(5)::integer + 1, 1),
        '' ORDER BY i)
    FROM (SELECT B'00' || ('x' || lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
        || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::bit(128) AS bits OFFSET 0) uuid,
        generate_series(0, 25) i
$body$
"""
_TEXT_OF_TIME = """
CREATE FUNCTION rfc3339(moment timestamptz) RETURNS text LANGUAGE sql STABLE AS $body$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$body$
"""
_RUN_FUNCTION = """
CREATE FUNCTION add_deliveries_of_run() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM endpoints e WHERE e.project_id = NEW.project_id AND e.enabled) THEN
        RETURN NULL;
    END IF;
    INSERT INTO deliveries (id, project_id, endpoint_id, event, subject_id, payload)
    SELECT new_type_id('dlv'), NEW.project_id, e.id, 'RUN_' || NEW.status, NEW.id, json_build_object(
        'type', 'run.' || lower(NEW.status), 'timestamp', rfc3339(now()), 'data', json_build_object(
            'runId', NEW.id, 'projectId', NEW.project_id, 'workflowId', NEW.workflow_id, 'versionId', NEW.version_id,
            'status', NEW.status, 'message', NEW.status_message, 'error', NEW.error, 'source', NEW.source,
            'tags', NEW.tags, 'createdBy', NEW.created_by, 'triggerId', NEW.trigger_id, 'parentId', NEW.parent_id,
            'attempt', NEW.attempt, 'createdAt', rfc3339(NEW.created_at), 'startedAt', rfc3339(NEW.started_at),
            'finishedAt', rfc3339(NEW.finished_at), 'waits', CASE WHEN NEW.status = 'WAITING' THEN (
                SELECT coalesce(json_agg(json_build_object('id', w.id, 'nodeId', w.node_id, 'kind', w.kind,
                    'until', rfc3339(w.until)) ORDER BY w.id), '[]')
                FROM waits w WHERE w.run_id = NEW.id AND w.settled_seq IS NULL AND w.superseded_seq IS NULL
            ) ELSE '[]' END))
    FROM endpoints e
    WHERE e.project_id = NEW.project_id AND e.enabled AND 'RUN_' || NEW.status = ANY(e.events)
        AND CASE WHEN e.workflow_ids = '{}' THEN NEW.parent_id IS NULL ELSE NEW.workflow_id = ANY(e.workflow_ids) END
        AND e.tags <@ NEW.tags
    FOR KEY SHARE OF e;
    RETURN NULL;
END $body$
"""
_RUN_TRIGGER = """
CREATE TRIGGER deliveries AFTER UPDATE OF status ON runs FOR EACH ROW
WHEN (NEW.status IN ('CANCELLED', 'COMPLETED', 'FAILED', 'WAITING') AND OLD.status <> NEW.status)
EXECUTE FUNCTION add_deliveries_of_run()
"""
_TRIGGER_FUNCTION = """
CREATE FUNCTION add_deliveries_of_trigger() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO deliveries (id, project_id, endpoint_id, event, subject_id, payload)
    SELECT new_type_id('dlv'), NEW.project_id, e.id, 'TRIGGER_DISABLED', NEW.id, json_build_object(
        'type', 'trigger.disabled', 'timestamp', rfc3339(now()), 'data', json_build_object(
            'triggerId', NEW.id, 'projectId', NEW.project_id, 'workflowId', NEW.workflow_id, 'kind', NEW.kind,
            'name', NEW.name, 'failures', NEW.failures, 'error', NEW.last_error,
            'lastFiredAt', rfc3339(NEW.last_fired_at)))
    FROM endpoints e
    WHERE e.project_id = NEW.project_id AND e.enabled AND 'TRIGGER_DISABLED' = ANY(e.events)
        AND (e.workflow_ids = '{}' OR NEW.workflow_id = ANY(e.workflow_ids))
    FOR KEY SHARE OF e;
    RETURN NULL;
END $body$
"""
_TRIGGER_TRIGGER = """
CREATE TRIGGER deliveries AFTER UPDATE OF enabled ON triggers FOR EACH ROW
WHEN (OLD.enabled AND NOT NEW.enabled) EXECUTE FUNCTION add_deliveries_of_trigger()
"""


def upgrade() -> None:
    op.execute(_ENDPOINTS)
    op.execute("CREATE INDEX ix_endpoints_project_id_id ON endpoints (project_id, id)")
    op.execute(_DELIVERIES)
    op.execute("CREATE INDEX ix_deliveries_endpoint_id_id ON deliveries (endpoint_id, id)")
    op.execute(
        "CREATE INDEX ix_deliveries_due ON deliveries (endpoint_id, next_attempt_at) WHERE status = 'PENDING'"
    )
    for statement in (_TYPE_ID, _TEXT_OF_TIME, _RUN_FUNCTION, _RUN_TRIGGER, _TRIGGER_FUNCTION, _TRIGGER_TRIGGER):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER deliveries ON runs")
    op.execute("DROP TRIGGER deliveries ON triggers")
    op.execute("DROP FUNCTION add_deliveries_of_run()")
    op.execute("DROP FUNCTION add_deliveries_of_trigger()")
    op.execute("DROP FUNCTION rfc3339(timestamptz)")
    op.execute("DROP FUNCTION new_type_id(text)")
    op.drop_table("deliveries")
    op.drop_table("endpoints")
