"""What plans need: workers record their speed, data sets two facts of their pictures, curve points the time left."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("rates", JSONB(), nullable=True))
    op.add_column("datasets", sa.Column("distinct_count", sa.BigInteger(), nullable=True))
    op.add_column("datasets", sa.Column("mirrors", sa.Boolean(), nullable=True))
    op.add_column("job_metrics", sa.Column("seconds_left", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("job_metrics", "seconds_left")
    op.drop_column("datasets", "mirrors")
    op.drop_column("datasets", "distinct_count")
    op.drop_column("workers", "rates")
