"""Store progress exactly, the port and the taken edges of nodes, and the layout of versions.

`progress` was single precision, which showed 1/3 as 0.3333333432674408. Postgres rewrites the two
tables for the new type; old values stay as they were shown. Older processes go on working: they
write the old type, which is converted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = ("runs", "node_states")


def upgrade() -> None:
    for table in _TABLES:
        op.alter_column(table, "progress", type_=sa.Double())
    op.add_column("node_states", sa.Column("port", sa.Text()))
    op.add_column("node_states", sa.Column("edges", sa.JSON()))
    op.add_column("versions", sa.Column("layout_revision", sa.Integer()))


def downgrade() -> None:
    op.drop_column("versions", "layout_revision")
    op.drop_column("node_states", "edges")
    op.drop_column("node_states", "port")
    for table in _TABLES:
        op.alter_column(table, "progress", type_=sa.REAL())
