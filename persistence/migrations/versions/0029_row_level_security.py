"""Add policies: roles named `treadle_reader…` see only rows of the projects of their transaction.

Other roles see all rows, and for the owner of the tables nothing is checked. Only the catalog changes.
Roles belong to the server and not to the database: `persistence.db.barrier` creates them.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

# The last condition, because it is false where it matters. The planner estimates that all rows match it.
_SEES_ALL = "NOT current_user::text ^@ 'treadle_reader'"
_PROJECTS = "(SELECT unnest(string_to_array(current_setting('treadle.projects', true), ',')))"
_OF_PROJECT = (
    "alert_rules",
    "api_keys",
    "audit_log",
    "bulk_jobs",
    "deliveries",
    "drafts",
    "endpoints",
    "idempotency_keys",
    "mutation_keys",
    "run_ends",
    "run_sums",
    "runs",
    "secrets",
    "signals",
    "trigger_events",
    "triggers",
    "versions",
    "webhook_deliveries",
    "workflows",
)
_OF_RUN = ("checkpoints", "events", "map_items", "node_outputs", "node_states", "pending_writes", "waits")
_CONDITIONS = {
    "projects": f"id IN {_PROJECTS}",
    # OFFSET makes a look-up by index of each. Without it the planner may hash all rows of the parent's table.
    "alert_sums": "EXISTS (SELECT FROM alert_rules WHERE alert_rules.id = alert_sums.rule_id OFFSET 0)",
    "pending_firings": "EXISTS (SELECT FROM triggers WHERE triggers.id = pending_firings.trigger_id OFFSET 0)",
    # The sign-in of a server reads it, never a caller.
    "browser_sessions": "false",
    **dict.fromkeys(_OF_PROJECT, f"project_id IN {_PROJECTS}"),
    # The policy of `runs` decides which runs exist here.
    **{table: f"EXISTS (SELECT FROM runs WHERE runs.id = {table}.run_id OFFSET 0)" for table in _OF_RUN},
}


def upgrade() -> None:
    # Most transactions lock `runs` first.
    statements = ["LOCK TABLE runs IN ACCESS EXCLUSIVE MODE"]
    for table, condition in sorted(_CONDITIONS.items()):
        statements.append(f"CREATE POLICY of_caller ON {table} USING ({condition} OR {_SEES_ALL})")
        statements.append(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    _execute(statements)


def downgrade() -> None:
    statements = ["LOCK TABLE runs IN ACCESS EXCLUSIVE MODE"]
    for table in sorted(_CONDITIONS):
        statements.append(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        statements.append(f"DROP POLICY of_caller ON {table}")
    _execute(statements)


def _execute(statements: list[str]) -> None:
    """Execute all statements in one round trip."""
    op.execute(f"DO $$ BEGIN {'; '.join(statements)}; END $$")
