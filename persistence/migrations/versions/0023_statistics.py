"""Add the statistics of ended runs.

The trigger inserts a row for each run that ends, whichever process ends it. Runs that have ended
before are counted too, without their nodes and tokens.
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

# A run that was queued again since its start has no known time in the queue. In a loop, a node has
# the usage of its last visit only, so the usages of all visits are read from the events. A node may
# report any number, which must not keep the run from ending: 10^15 tokens or billionths of a dollar are
# counted at most, so that sums have 64 bits.
_RECORD = """
CREATE FUNCTION record_run_end() RETURNS trigger LANGUAGE plpgsql AS $$
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
        output_tokens, cost, nodes)
    VALUES (NEW.project_id, NEW.workflow_id, NEW.finished_at, NEW.status, NEW.error->>'code',
        1000 * extract(epoch FROM NEW.finished_at - NEW.started_at),
        CASE WHEN NEW.queued_at <= NEW.started_at THEN 1000 * extract(epoch FROM NEW.started_at - NEW.queued_at) END,
        least(greatest(round(tokens_in), 0), 1e15), least(greatest(round(tokens_out), 0), 1e15),
        least(greatest(round(cost * 1e9), 0), 1e15), states);
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute(
        "CREATE TABLE run_ends (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, project_id text COLLATE \"C\" NOT NULL, "
        'workflow_id text COLLATE "C", finished_at timestamptz NOT NULL, status text NOT NULL, code text, '
        "duration_ms double precision, queue_ms double precision, input_tokens bigint NOT NULL, "
        "output_tokens bigint NOT NULL, cost bigint NOT NULL, nodes json)"
    )
    op.execute(
        'CREATE TABLE run_sums (project_id text COLLATE "C", workflow_id text COLLATE "C", node_id text, unit text, '
        "start timestamptz, counts json NOT NULL, PRIMARY KEY (project_id, workflow_id, unit, start, node_id))"
    )
    op.execute(_RECORD)
    op.execute(
        "INSERT INTO run_ends (project_id, workflow_id, finished_at, status, code, duration_ms, input_tokens, output_tokens, "
        "cost) SELECT project_id, workflow_id, finished_at, status, error->>'code', "
        "1000 * extract(epoch FROM finished_at - started_at), 0, 0, 0 FROM runs WHERE finished_at IS NOT NULL"
    )
    op.execute(
        "CREATE TRIGGER record_run_end AFTER UPDATE ON runs FOR EACH ROW "
        "WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION record_run_end()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER record_run_end ON runs")
    op.execute("DROP FUNCTION record_run_end()")
    op.execute("DROP TABLE run_sums")
    op.execute("DROP TABLE run_ends")
