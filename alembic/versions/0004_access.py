"""API keys, the jobs that they queued, and the audit trail, whose events only a migration can delete."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UNFINISHED = "api_key_id IS NOT NULL AND status IN ('queued', 'running', 'cancelling')"


def _time(name: str, *, given: bool = False) -> sa.Column[object]:
    default = sa.text("now()") if given else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=not given)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", JSONB(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("images_per_day", sa.Integer(), nullable=True),
        sa.Column("unfinished_jobs", sa.Integer(), nullable=True),
        _time("created_at", given=True),
        _time("expires_at"),
        _time("revoked_at"),
        _time("last_used_at"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("ck_api_keys_name")),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_api_keys_digest")),
        sa.CheckConstraint(
            "jsonb_array_length(scopes) > 0 AND "
            """scopes <@ '["generate", "train", "metrics", "admin"]'::jsonb""",
            name=op.f("ck_api_keys_scopes"),
        ),
        sa.CheckConstraint("requests_per_minute >= 1", name=op.f("ck_api_keys_requests_per_minute")),
        sa.CheckConstraint("images_per_day >= 0", name=op.f("ck_api_keys_images_per_day")),
        sa.CheckConstraint("unfinished_jobs >= 0", name=op.f("ck_api_keys_unfinished_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.add_column("jobs", sa.Column("api_key_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_api_key_id_api_keys"), "jobs", "api_keys", ["api_key_id"], ["id"])
    op.create_index("ix_jobs_api_key_id", "jobs", ["api_key_id"], postgresql_where=sa.text(UNFINISHED))
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _time("created_at", given=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("client_address", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_audit_events_api_key_id_api_keys")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index("ix_audit_events_action_id", "audit_events", ["action", sa.text("id DESC")])
    op.create_index("ix_audit_events_target_id", "audit_events", ["target", sa.text("id DESC")])
    op.execute(
        """
        CREATE FUNCTION refuse_change_of_audit_events() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit events are added only' USING ERRCODE = 'restrict_violation';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_events()
        """
    )


def downgrade() -> None:
    op.drop_table("audit_events")
    op.execute("DROP FUNCTION refuse_change_of_audit_events()")
    op.drop_column("jobs", "api_key_id")
    op.drop_table("api_keys")
