"""Workers tell which networks of metrics they lack."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("lacks", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "lacks")
