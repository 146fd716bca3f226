"""Counters are sums of rows, so that transactions that count the same do not wait for each other."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counter_slots",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", "slot", name=op.f("pk_counter_slots")),
    )


def downgrade() -> None:
    op.execute(
        "INSERT INTO counters (name, label, value) SELECT name, label, sum(value) FROM counter_slots "
        "GROUP BY name, label ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value"
    )
    op.drop_table("counter_slots")
