"""Delete the history of a deleted run by a trigger, instead of foreign keys that each insert checks.

A foreign key costs each inserted row a query and a lock on its run. Every writer of these tables has
locked the run, or inserts it, in the same transaction. So a row of a run that does not exist cannot be
written, and the trigger finds all rows. Only the catalog changes: no table is read or rewritten.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TABLES = ("events", "node_states", "node_outputs", "checkpoints")


def upgrade() -> None:
    deletes = "".join(f"    DELETE FROM {table} t USING deleted d WHERE t.run_id = d.id;\n" for table in _TABLES)
    op.execute(
        "CREATE FUNCTION delete_history() RETURNS trigger LANGUAGE plpgsql AS $$\n"
        f"BEGIN\n{deletes}    RETURN NULL;\nEND $$"
    )
    op.execute(
        "CREATE TRIGGER delete_history AFTER DELETE ON runs REFERENCING OLD TABLE AS deleted "
        "FOR EACH STATEMENT EXECUTE FUNCTION delete_history()"
    )
    for table in _TABLES:
        op.drop_constraint(f"fk_{table}_run_id", table, type_="foreignkey")
    # Most rows are inserted once: only the states of nodes that take long are updated.
    op.execute("ALTER TABLE node_states SET (fillfactor = 90)")


def downgrade() -> None:
    op.execute("ALTER TABLE node_states SET (fillfactor = 70)")
    for table in _TABLES:
        op.create_foreign_key(f"fk_{table}_run_id", table, "runs", ["run_id"], ["id"], ondelete="CASCADE")
    op.execute("DROP TRIGGER delete_history ON runs")
    op.execute("DROP FUNCTION delete_history()")
