"""Data sets have versions, and remember what was found beside their images."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("datasets", sa.Column("replaced_by", sa.BigInteger(), nullable=True))
    op.add_column("datasets", sa.Column("reading", JSONB(), nullable=True))
    op.create_foreign_key(
        op.f("fk_datasets_replaced_by_datasets"), "datasets", "datasets", ["replaced_by"], ["id"], ondelete="SET NULL"
    )
    op.create_index(op.f("ix_datasets_replaced_by"), "datasets", ["replaced_by"])


def downgrade() -> None:
    """Earlier versions become data sets of their own names."""
    op.drop_index(op.f("ix_datasets_replaced_by"), "datasets")
    op.drop_constraint(op.f("fk_datasets_replaced_by_datasets"), "datasets", type_="foreignkey")
    for column in ("reading", "replaced_by", "version"):
        op.drop_column("datasets", column)
