"""Data sets say for each class whether its mirror images look like it, and how many pictures lie on a flat ground."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("mirrored", JSONB(), nullable=True))
    op.add_column("datasets", sa.Column("flat_grounds", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("datasets", "flat_grounds")
    op.drop_column("datasets", "mirrored")
