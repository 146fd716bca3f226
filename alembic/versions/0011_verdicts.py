"""Jobs and versions keep the early verdict of their training."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("verdict", JSONB(), nullable=True))
    op.add_column("checkpoints", sa.Column("verdict", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("checkpoints", "verdict")
    op.drop_column("jobs", "verdict")
