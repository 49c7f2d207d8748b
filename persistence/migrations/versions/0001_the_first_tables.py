"""Create the first tables, and the project `default`."""

from alembic import op
import sqlalchemy as sa

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('projects',
    sa.Column('id', sa.Text(collation='C'), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_projects')),
    sa.UniqueConstraint('name', name=op.f('uq_projects_name'))
    )
    op.create_table('workflows',
    sa.Column('id', sa.Text(collation='C'), nullable=False),
    sa.Column('project_id', sa.Text(collation='C'), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('description', sa.Text(), server_default='', nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_workflows_project_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_workflows'))
    )
    op.create_index('ix_workflows_project_id_id', 'workflows', ['project_id', 'id'], unique=False)
    op.create_table('drafts',
    sa.Column('workflow_id', sa.Text(collation='C'), nullable=False),
    sa.Column('project_id', sa.Text(collation='C'), nullable=False),
    sa.Column('spec', sa.JSON(), nullable=False),
    sa.Column('spec_hash', sa.Text(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_by', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_drafts_project_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['workflow_id'], ['workflows.id'], name=op.f('fk_drafts_workflow_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('workflow_id', name=op.f('pk_drafts'))
    )
    op.create_table('versions',
    sa.Column('id', sa.Text(collation='C'), nullable=False),
    sa.Column('project_id', sa.Text(collation='C'), nullable=False),
    sa.Column('workflow_id', sa.Text(collation='C'), nullable=True),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('spec', sa.JSON(), nullable=False),
    sa.Column('spec_hash', sa.Text(), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('published_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_versions_project_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['workflow_id'], ['workflows.id'], name=op.f('fk_versions_workflow_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_versions')),
    sa.UniqueConstraint('workflow_id', 'number', name=op.f('uq_versions_workflow_id_number')),
    sa.UniqueConstraint('workflow_id', 'spec_hash', name=op.f('uq_versions_workflow_id_spec_hash'))
    )
    op.create_index('uq_versions_adhoc', 'versions', ['project_id', 'spec_hash'], unique=True, postgresql_where=sa.text('workflow_id IS NULL'))
    op.create_index('uq_versions_published', 'versions', ['workflow_id'], unique=True, postgresql_where=sa.text("status = 'PUBLISHED'"))
    op.create_table('runs',
    sa.Column('id', sa.Text(collation='C'), nullable=False),
    sa.Column('project_id', sa.Text(collation='C'), nullable=False),
    sa.Column('workflow_id', sa.Text(collation='C'), nullable=True),
    sa.Column('version_id', sa.Text(collation='C'), nullable=False),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('mode', sa.Text(), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('status_message', sa.Text(), nullable=True),
    sa.Column('inputs', sa.JSON(), nullable=False),
    sa.Column('output', sa.JSON(), nullable=True),
    sa.Column('error', sa.JSON(), nullable=True),
    sa.Column('progress', sa.REAL(), server_default='0', nullable=False),
    sa.Column('options', sa.JSON(), nullable=False),
    sa.Column('priority', sa.Integer(), server_default='0', nullable=False),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('epoch', sa.Integer(), server_default='0', nullable=False),
    sa.Column('worker_id', sa.Text(), nullable=True),
    sa.Column('lease_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('attempt', sa.Integer(), server_default='0', nullable=False),
    sa.Column('takeup', sa.Integer(), server_default='0', nullable=False),
    sa.Column('last_seq', sa.Integer(), server_default='0', nullable=False),
    sa.Column('lineage', sa.Integer(), server_default='0', nullable=False),
    sa.Column('written_by', sa.BigInteger(), nullable=True),
    sa.Column('cancel_reason', sa.Text(), nullable=True),
    sa.Column('cancel_requested_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('pause_requested_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('parent_id', sa.Text(collation='C'), nullable=True),
    sa.Column('retry_of_id', sa.Text(collation='C'), nullable=True),
    sa.Column('forked_from_id', sa.Text(collation='C'), nullable=True),
    sa.Column('deadline_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('queued_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('resumed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('paused_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('cancelled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['parent_id'], ['runs.id'], name=op.f('fk_runs_parent_id'), ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_runs_project_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['retry_of_id'], ['runs.id'], name=op.f('fk_runs_retry_of_id'), ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['version_id'], ['versions.id'], name=op.f('fk_runs_version_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['workflow_id'], ['workflows.id'], name=op.f('fk_runs_workflow_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_runs')),
    postgresql_with={'fillfactor': '70'}
    )
    op.create_index('ix_runs_active', 'runs', ['status', 'lease_until'], unique=False, postgresql_where=sa.text("status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')"))
    op.create_index('ix_runs_parent_id', 'runs', ['parent_id'], unique=False, postgresql_where=sa.text('parent_id IS NOT NULL'))
    op.create_index('ix_runs_project_id_id', 'runs', ['project_id', 'id'], unique=False)
    op.create_index('ix_runs_retry_of_id', 'runs', ['retry_of_id'], unique=False, postgresql_where=sa.text('retry_of_id IS NOT NULL'))
    op.create_index('ix_runs_version_id_id', 'runs', ['version_id', 'id'], unique=False)
    op.create_index('ix_runs_workflow_id_id', 'runs', ['workflow_id', 'id'], unique=False)
    op.create_table('checkpoints',
    sa.Column('run_id', sa.Text(collation='C'), nullable=False),
    sa.Column('seq', sa.Integer(), nullable=False),
    sa.Column('id', sa.Text(collation='C'), nullable=False),
    sa.Column('parent_id', sa.Text(collation='C'), nullable=True),
    sa.Column('step', sa.Integer(), nullable=False),
    sa.Column('lineage', sa.Integer(), server_default='0', nullable=False),
    sa.Column('is_full', sa.Boolean(), nullable=False),
    sa.Column('data', sa.LargeBinary(), nullable=False),
    sa.Column('next_nodes', sa.JSON(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_checkpoints_run_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('run_id', 'seq', name=op.f('pk_checkpoints')),
    sa.UniqueConstraint('id', name=op.f('uq_checkpoints_id'))
    )
    op.create_table('events',
    sa.Column('run_id', sa.Text(collation='C'), nullable=False),
    sa.Column('seq', sa.Integer(), nullable=False),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('node_id', sa.Text(), nullable=True),
    sa.Column('body', sa.JSON(), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_events_run_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('run_id', 'seq', name=op.f('pk_events'))
    )
    op.create_table('idempotency_keys',
    sa.Column('project_id', sa.Text(collation='C'), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('arguments_hash', sa.Text(), nullable=False),
    sa.Column('run_id', sa.Text(collation='C'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_idempotency_keys_project_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_idempotency_keys_run_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'key', name=op.f('pk_idempotency_keys'))
    )
    op.create_table('node_outputs',
    sa.Column('run_id', sa.Text(collation='C'), nullable=False),
    sa.Column('seq', sa.Integer(), nullable=False),
    sa.Column('node_id', sa.Text(), nullable=False),
    sa.Column('visit', sa.Integer(), nullable=False),
    sa.Column('lineage', sa.Integer(), server_default='0', nullable=False),
    sa.Column('input', sa.JSON(), nullable=True),
    sa.Column('output', sa.JSON(), nullable=True),
    sa.Column('is_superseded', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_node_outputs_run_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('run_id', 'seq', name=op.f('pk_node_outputs'))
    )
    op.create_table('node_states',
    sa.Column('run_id', sa.Text(collation='C'), nullable=False),
    sa.Column('node_id', sa.Text(), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('visits', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.SmallInteger(), nullable=False),
    sa.Column('progress', sa.REAL(), nullable=False),
    sa.Column('message', sa.Text(), nullable=True),
    sa.Column('partial_output', sa.Text(), nullable=True),
    sa.Column('error', sa.JSON(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('completed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('seq', sa.Integer(), nullable=False),
    sa.Column('output_seq', sa.Integer(), nullable=True),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_node_states_run_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('run_id', 'node_id', name=op.f('pk_node_states')),
    postgresql_with={'fillfactor': '70'}
    )
    op.create_table('pending_writes',
    sa.Column('run_id', sa.Text(collation='C'), nullable=False),
    sa.Column('checkpoint_id', sa.Text(collation='C'), nullable=False),
    sa.Column('task_id', sa.Text(), nullable=False),
    sa.Column('idx', sa.Integer(), nullable=False),
    sa.Column('channel', sa.Text(), nullable=False),
    sa.Column('value', sa.LargeBinary(), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_pending_writes_run_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('run_id', 'checkpoint_id', 'task_id', 'idx', name=op.f('pk_pending_writes'))
    )
    op.execute("INSERT INTO projects (id, name) VALUES ('prj_00000000000000000000000000', 'default')")


def downgrade() -> None:
    op.drop_table('pending_writes')
    op.drop_table('node_states')
    op.drop_table('node_outputs')
    op.drop_table('idempotency_keys')
    op.drop_table('events')
    op.drop_table('checkpoints')
    op.drop_index('ix_runs_workflow_id_id', table_name='runs')
    op.drop_index('ix_runs_version_id_id', table_name='runs')
    op.drop_index('ix_runs_retry_of_id', table_name='runs', postgresql_where=sa.text('retry_of_id IS NOT NULL'))
    op.drop_index('ix_runs_project_id_id', table_name='runs')
    op.drop_index('ix_runs_parent_id', table_name='runs', postgresql_where=sa.text('parent_id IS NOT NULL'))
    op.drop_index('ix_runs_active', table_name='runs', postgresql_where=sa.text("status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')"))
    op.drop_table('runs')
    op.drop_index('uq_versions_published', table_name='versions', postgresql_where=sa.text("status = 'PUBLISHED'"))
    op.drop_index('uq_versions_adhoc', table_name='versions', postgresql_where=sa.text('workflow_id IS NULL'))
    op.drop_table('versions')
    op.drop_table('drafts')
    op.drop_index('ix_workflows_project_id_id', table_name='workflows')
    op.drop_table('workflows')
    op.drop_table('projects')
