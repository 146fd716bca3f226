"""One table for the figures of evaluations and frontiers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = ("checkpoint_id", "metric", "protocol_digest")


def upgrade() -> None:
    """Delete values that are not finite: they decided nothing, and figures must be finite from now on."""
    op.add_column("evaluations", sa.Column("purpose", sa.Text(), server_default="evaluation", nullable=False))
    op.alter_column("evaluations", "purpose", server_default=None)
    op.alter_column("evaluations", "seconds", nullable=True)
    _key("checkpoint_id", "purpose", "metric", "protocol_digest")  # a metric and protocol may occur with both purposes
    op.create_check_constraint(op.f("ck_evaluations_purpose"), "evaluations", "purpose IN ('evaluation', 'frontier')")
    op.create_check_constraint(
        op.f("ck_evaluations_seconds"), "evaluations", "purpose <> 'evaluation' OR seconds IS NOT NULL"
    )
    op.execute(
        "INSERT INTO evaluations (checkpoint_id, purpose, metric, protocol_digest, value, protocol, created_at)"
        " SELECT checkpoint_id, 'frontier', metric, protocol_digest, value, protocol, created_at FROM frontier_figures"
    )
    op.drop_table("frontier_figures")
    op.execute("DELETE FROM evaluations WHERE value IN ('NaN', 'Infinity', '-Infinity')")


def downgrade() -> None:
    """The duration of a frontier's measurements is lost: the older schema has no column for it."""
    op.create_table(
        "frontier_figures",
        sa.Column("checkpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("protocol_digest", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("protocol", JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoints.id"],
            name=op.f("fk_frontier_figures_checkpoint_id_checkpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(*KEY, name=op.f("pk_frontier_figures")),
    )
    op.execute(
        "INSERT INTO frontier_figures (checkpoint_id, metric, protocol_digest, value, protocol, created_at)"
        " SELECT checkpoint_id, metric, protocol_digest, value, protocol, created_at FROM evaluations"
        " WHERE purpose = 'frontier'"
    )
    op.execute("DELETE FROM evaluations WHERE purpose = 'frontier'")
    op.drop_constraint(op.f("ck_evaluations_seconds"), "evaluations", type_="check")
    op.drop_constraint(op.f("ck_evaluations_purpose"), "evaluations", type_="check")
    _key(*KEY)
    op.drop_column("evaluations", "purpose")
    op.alter_column("evaluations", "seconds", nullable=False)


def _key(*columns: str) -> None:
    op.drop_constraint(op.f("pk_evaluations"), "evaluations", type_="primary")
    op.create_primary_key(op.f("pk_evaluations"), "evaluations", list(columns))
