"""Data sets, jobs and their results, sweeps, generate jobs. A checkpoint's record may outlive its bytes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


TABLES = (
    "counters",
    "idempotency_keys",
    "workers",
    "job_samples",
    "job_metrics",
    "job_log_lines",
    "job_events",
    "job_checkpoints",
    "generate_parts",
    "jobs",
    "sweeps",
    "generate_jobs",
    "evaluations",
    "reference_statistics",
    "datasets",
)


def _clock(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", name=op.f("pk_counters")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.BigInteger(), nullable=False),
        _clock("created_at"),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])
    op.create_table(
        "sweeps",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("configuration", JSONB(), nullable=False),
        sa.Column("fields", JSONB(), nullable=False),
        _clock("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        _clock("seen_at"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.create_index(op.f("ix_workers_seen_at"), "workers", ["seen_at"])
    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("artifact_digest", sa.Text(), nullable=True),
        sa.Column("configuration", JSONB(), nullable=True),
        sa.Column("class_names", JSONB(), nullable=False),
        sa.Column("class_counts", JSONB(), nullable=False),
        sa.Column("image_count", sa.BigInteger(), nullable=False),
        sa.Column("image_channels", sa.Integer(), nullable=False),
        sa.Column("image_size", sa.Integer(), nullable=False),
        sa.Column("contact_sheet_digest", sa.Text(), nullable=False),
        _clock("created_at"),
        sa.CheckConstraint("(artifact_digest IS NULL) <> (configuration IS NULL)", name=op.f("ck_datasets_source")),
        sa.CheckConstraint("image_count > 0", name=op.f("ck_datasets_image_count")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("ck_datasets_name")),
        sa.ForeignKeyConstraint(
            ["artifact_digest"], ["artifacts.digest"], name=op.f("fk_datasets_artifact_digest_artifacts")
        ),
        sa.ForeignKeyConstraint(
            ["contact_sheet_digest"], ["artifacts.digest"], name=op.f("fk_datasets_contact_sheet_digest_artifacts")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("name", name=op.f("uq_datasets_name")),
    )
    op.create_index(op.f("ix_datasets_artifact_digest"), "datasets", ["artifact_digest"])
    op.create_index(op.f("ix_datasets_contact_sheet_digest"), "datasets", ["contact_sheet_digest"])
    op.create_index(op.f("ix_datasets_digest"), "datasets", ["digest"])
    op.create_table(
        "reference_statistics",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        _clock("created_at"),
        sa.ForeignKeyConstraint(
            ["digest"], ["artifacts.digest"], name=op.f("fk_reference_statistics_digest_artifacts")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_reference_statistics")),
    )
    op.create_index(op.f("ix_reference_statistics_digest"), "reference_statistics", ["digest"])
    op.create_table(
        "evaluations",
        sa.Column("checkpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("protocol_digest", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("protocol", JSONB(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        _clock("created_at"),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoints.id"],
            name=op.f("fk_evaluations_checkpoint_id_checkpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("checkpoint_id", "metric", "protocol_digest", name=op.f("pk_evaluations")),
    )
    op.create_table(
        "generate_jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("checkpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("configuration", JSONB(), nullable=False),
        sa.Column("total_images", sa.BigInteger(), nullable=False),
        sa.Column("result_digest", sa.Text(), nullable=True),
        _clock("created_at"),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_generate_jobs_checkpoint_id_checkpoints")
        ),
        sa.ForeignKeyConstraint(
            ["result_digest"], ["artifacts.digest"], name=op.f("fk_generate_jobs_result_digest_artifacts")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generate_jobs")),
    )
    op.create_index(op.f("ix_generate_jobs_checkpoint_id"), "generate_jobs", ["checkpoint_id"])
    op.create_index(op.f("ix_generate_jobs_result_digest"), "generate_jobs", ["result_digest"])
    op.create_table(
        "generate_parts",
        sa.Column("generate_job_id", sa.BigInteger(), nullable=False),
        sa.Column("first_row", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        _clock("created_at"),
        sa.ForeignKeyConstraint(["digest"], ["artifacts.digest"], name=op.f("fk_generate_parts_digest_artifacts")),
        sa.ForeignKeyConstraint(
            ["generate_job_id"],
            ["generate_jobs.id"],
            name=op.f("fk_generate_parts_generate_job_id_generate_jobs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("generate_job_id", "first_row", name=op.f("pk_generate_parts")),
    )
    op.create_index(op.f("ix_generate_parts_digest"), "generate_parts", ["digest"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=True),
        sa.Column("sweep_id", sa.BigInteger(), nullable=True),
        sa.Column("generate_job_id", sa.BigInteger(), nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("configuration", JSONB(), nullable=False),
        sa.Column("device", sa.Text(), server_default="auto", nullable=False),
        sa.Column("devices", sa.Integer(), server_default="1", nullable=False),
        sa.Column("promote", sa.Text(), server_default="never", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default="3", nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("hinted_at", sa.DateTime(timezone=True), nullable=True),
        _clock("not_before"),
        sa.Column("images_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_images", sa.BigInteger(), nullable=False),
        sa.Column("best_checkpoint_id", sa.BigInteger(), nullable=True),
        sa.Column("failure", JSONB(), nullable=True),
        sa.Column("event_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("log_line_count", sa.Integer(), server_default="0", nullable=False),
        _clock("created_at"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status IN ('running', 'cancelling')) = (lease_expires_at IS NOT NULL)",
            name=op.f("ck_jobs_lease_while_running"),
        ),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_jobs_finished_at"),
        ),
        sa.CheckConstraint("device IN ('auto', 'cpu', 'cuda')", name=op.f("ck_jobs_device")),
        sa.CheckConstraint("kind IN ('train', 'sample', 'assemble')", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint("promote IN ('never', 'best')", name=op.f("ck_jobs_promote")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_jobs_status"),
        ),
        sa.CheckConstraint("devices >= 1", name=op.f("ck_jobs_devices")),
        sa.CheckConstraint("max_attempts >= 1", name=op.f("ck_jobs_max_attempts")),
        sa.CheckConstraint("total_images >= 1", name=op.f("ck_jobs_total_images")),
        sa.ForeignKeyConstraint(
            ["best_checkpoint_id"], ["checkpoints.id"], name=op.f("fk_jobs_best_checkpoint_id_checkpoints")
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_jobs_dataset_id_datasets")),
        sa.ForeignKeyConstraint(
            ["generate_job_id"], ["generate_jobs.id"], name=op.f("fk_jobs_generate_job_id_generate_jobs")
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["jobs.id"], name=op.f("fk_jobs_parent_id_jobs")),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_jobs_sweep_id_sweeps")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_best_checkpoint_id"), "jobs", ["best_checkpoint_id"])
    op.create_index(
        "ix_jobs_claim",
        "jobs",
        [sa.literal_column("priority DESC"), "id"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index(op.f("ix_jobs_dataset_id"), "jobs", ["dataset_id"])
    op.create_index(
        "ix_jobs_generate_job_id_id",
        "jobs",
        ["generate_job_id", "id"],
        unique=False,
        postgresql_where=sa.text("generate_job_id IS NOT NULL"),
    )
    op.create_index("ix_jobs_kind_id", "jobs", ["kind", sa.literal_column("id DESC")])
    op.create_index("ix_jobs_kind_model_name_id", "jobs", ["kind", "model_name", sa.literal_column("id DESC")])
    op.create_index(
        "ix_jobs_kind_model_name_status_id", "jobs", ["kind", "model_name", "status", sa.literal_column("id DESC")]
    )
    op.create_index("ix_jobs_kind_status_id", "jobs", ["kind", "status", sa.literal_column("id DESC")])
    op.create_index(
        "ix_jobs_lease",
        "jobs",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("lease_expires_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_jobs_parent_id"), "jobs", ["parent_id"])
    op.create_index(
        "ix_jobs_sweep_id_id",
        "jobs",
        ["sweep_id", "id"],
        unique=False,
        postgresql_where=sa.text("sweep_id IS NOT NULL"),
    )
    op.create_table(
        "job_checkpoints",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("images_seen", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("checkpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("state_digest", sa.Text(), nullable=True),
        _clock("created_at"),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_job_checkpoints_checkpoint_id_checkpoints")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_checkpoints_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["state_digest"], ["artifacts.digest"], name=op.f("fk_job_checkpoints_state_digest_artifacts")
        ),
        sa.PrimaryKeyConstraint("job_id", "images_seen", name=op.f("pk_job_checkpoints")),
    )
    op.create_index(op.f("ix_job_checkpoints_checkpoint_id"), "job_checkpoints", ["checkpoint_id"])
    op.create_index(op.f("ix_job_checkpoints_state_digest"), "job_checkpoints", ["state_digest"])
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_events")),
    )
    op.create_table(
        "job_log_lines",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        _clock("created_at"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_log_lines_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_log_lines")),
    )
    op.create_table(
        "job_metrics",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("images_seen", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("gradient_norm", sa.Double(), nullable=False),
        sa.Column("learning_rate", sa.Double(), nullable=False),
        sa.Column("images_per_second", sa.Double(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_metrics_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "images_seen", name=op.f("pk_job_metrics")),
    )
    op.create_table(
        "job_samples",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("images_seen", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        _clock("created_at"),
        sa.ForeignKeyConstraint(["digest"], ["artifacts.digest"], name=op.f("fk_job_samples_digest_artifacts")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_samples_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "images_seen", name=op.f("pk_job_samples")),
    )
    op.create_index(op.f("ix_job_samples_digest"), "job_samples", ["digest"])
    op.add_column("artifacts", sa.Column("location", sa.Text(), nullable=True))
    op.add_column("checkpoints", sa.Column("artifact_digest", sa.Text(), nullable=True))
    op.execute("UPDATE checkpoints SET artifact_digest = digest")
    op.create_index(op.f("ix_checkpoints_artifact_digest"), "checkpoints", ["artifact_digest"])
    op.drop_constraint(op.f("fk_checkpoints_digest_artifacts"), "checkpoints", type_="foreignkey")
    op.create_foreign_key(
        op.f("fk_checkpoints_artifact_digest_artifacts"), "checkpoints", "artifacts", ["artifact_digest"], ["digest"]
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    # the older schema cannot hold bytes outside the database, or a checkpoint without bytes
    op.execute("DELETE FROM model_aliases USING checkpoints c WHERE c.id = checkpoint_id AND c.artifact_digest IS NULL")
    op.execute(
        "DELETE FROM model_aliases USING checkpoints c JOIN artifacts a ON a.digest = c.artifact_digest"
        " WHERE c.id = checkpoint_id AND a.location IS NOT NULL"
    )
    op.execute(
        "DELETE FROM checkpoints c WHERE artifact_digest IS NULL OR EXISTS"
        " (SELECT 1 FROM artifacts a WHERE a.digest = c.artifact_digest AND a.location IS NOT NULL)"
    )
    op.drop_constraint(op.f("fk_checkpoints_artifact_digest_artifacts"), "checkpoints", type_="foreignkey")
    op.create_foreign_key(op.f("fk_checkpoints_digest_artifacts"), "checkpoints", "artifacts", ["digest"], ["digest"])
    op.drop_index(op.f("ix_checkpoints_artifact_digest"), table_name="checkpoints")
    op.drop_column("checkpoints", "artifact_digest")
    op.execute("DELETE FROM artifacts WHERE location IS NOT NULL")
    op.drop_column("artifacts", "location")
