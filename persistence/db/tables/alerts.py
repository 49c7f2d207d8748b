"""The tables of alert rules and of their counters; docs/alerts.md has the states."""

from sqlalchemy import ARRAY, JSON, Boolean, Column, Double, ForeignKey, Index, Integer, Table, Text, func, text

from persistence.db.tables.base import Id, Moment, metadata, project_column

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("name", Text, nullable=False),
    # A name of AlertMetric.
    Column("metric", Text, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("resolve_threshold", Double, nullable=False),
    Column("window_s", Integer, nullable=False),
    # How long a value must be beyond a threshold.
    Column("for_s", Integer, nullable=False),
    Column("min_runs", Integer, nullable=False),
    # Empty: all workflows, without child runs.
    Column("workflow_ids", ARRAY(Text), nullable=False),
    # A run must have all of them.
    Column("tags", ARRAY(Text), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("state", Text, nullable=False, server_default="OK"),
    # The value of the last evaluation.
    Column("value", Double),
    Column("state_since", Moment, nullable=False, server_default=func.now()),
    # Since when the value is beyond the threshold that ends the state.
    Column("crossed_at", Moment),
    # Runs that ended before are not counted.
    Column("counting_since", Moment, nullable=False, server_default=func.now()),
    Column("evaluate_at", Moment, nullable=False, server_default=func.now()),
    Column("evaluated_at", Moment),
    Column("created_by", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_alert_rules_project_id_id", "project_id", "id"),
    Index("ix_alert_rules_due", "evaluate_at", postgresql_where=text("enabled")),
)

# The counters of the ended runs that a rule chooses, by parts of its window.
alert_sums = Table(
    "alert_sums",
    metadata,
    Column("rule_id", Id, ForeignKey("alert_rules.id", ondelete="CASCADE"), primary_key=True),
    Column("start", Moment, primary_key=True),
    Column("counts", JSON, nullable=False),
)
