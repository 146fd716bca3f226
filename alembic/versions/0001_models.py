"""Models, checkpoints, aliases and artifacts."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _clock(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        _clock("created_at"),
        sa.PrimaryKeyConstraint("digest", name="pk_artifacts"),
        sa.CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name=op.f("ck_artifacts_digest")),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_artifacts_size_bytes")),
    )
    op.create_table(
        "artifact_chunks",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "position", name="pk_artifact_chunks"),
        sa.ForeignKeyConstraint(
            ["digest"], ["artifacts.digest"], name="fk_artifact_chunks_digest_artifacts", ondelete="CASCADE"
        ),
    )
    # weights do not compress, so PostgreSQL should not try
    op.execute("ALTER TABLE artifact_chunks ALTER COLUMN data SET STORAGE EXTERNAL")
    op.create_table(
        "models",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        _clock("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
        sa.CheckConstraint("name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name=op.f("ck_models_name")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("images_seen", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("configuration", JSONB(), nullable=False),
        sa.Column("class_names", JSONB(), nullable=False),
        sa.Column("metrics", JSONB(), nullable=False),
        _clock("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_checkpoints_model_id_models", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["digest"], ["artifacts.digest"], name="fk_checkpoints_digest_artifacts"),
        sa.UniqueConstraint("model_id", "version", name="uq_checkpoints_model_id_version"),
        sa.UniqueConstraint("model_id", "digest", name="uq_checkpoints_model_id_digest"),
        sa.UniqueConstraint("model_id", "id", name="uq_checkpoints_model_id_id"),
        sa.CheckConstraint("version >= 1", name=op.f("ck_checkpoints_version")),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_checkpoints_size_bytes")),
        sa.CheckConstraint("images_seen >= 0", name=op.f("ck_checkpoints_images_seen")),
        sa.CheckConstraint("source IN ('shipped', 'trained', 'imported')", name=op.f("ck_checkpoints_source")),
    )
    op.create_index("ix_checkpoints_digest", "checkpoints", ["digest"])
    op.create_table(
        "model_aliases",
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("checkpoint_id", sa.BigInteger(), nullable=False),
        _clock("updated_at"),
        sa.PrimaryKeyConstraint("model_id", "alias", name="pk_model_aliases"),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_model_aliases_model_id_models", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["model_id", "checkpoint_id"],
            ["checkpoints.model_id", "checkpoints.id"],
            name="fk_model_aliases_model_id_checkpoint_id_checkpoints",
        ),
        sa.CheckConstraint("alias ~ '^[a-z][a-z0-9._-]{0,62}$'", name=op.f("ck_model_aliases_alias")),
    )
    op.create_index("ix_model_aliases_checkpoint_id", "model_aliases", ["checkpoint_id"])


def downgrade() -> None:
    for table in ("model_aliases", "checkpoints", "models", "artifact_chunks", "artifacts"):
        op.drop_table(table)
