"""Workers record whether their device works. Hints no longer belong to a job."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("jobs", "hinted_at")
    op.add_column("workers", sa.Column("device_fault", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("device_good_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE workers SET device_good_at = seen_at")


def downgrade() -> None:
    op.drop_column("workers", "device_good_at")
    op.drop_column("workers", "device_fault")
    op.add_column("jobs", sa.Column("hinted_at", sa.DateTime(timezone=True), nullable=True))
