"""Marks that keep jobs, versions and data sets; jobs say what retention has deleted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEPT = ("jobs", "checkpoints", "datasets")


def upgrade() -> None:
    for table in KEPT:
        op.add_column(table, sa.Column("keep", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("jobs", sa.Column("removed", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False))
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], postgresql_where=sa.text("finished_at IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("ix_jobs_finished_at", "jobs")
    op.drop_column("jobs", "removed")
    for table in KEPT:
        op.drop_column(table, "keep")
