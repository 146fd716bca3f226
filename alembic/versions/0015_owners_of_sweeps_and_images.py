"""Sweeps and generate jobs have an owner, as models and data sets do: the key with which they were submitted."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

OWNED = {"sweeps": "sweep_id", "generate_jobs": "generate_job_id"}
"""By table, the column of the jobs that belong to a record."""


def upgrade() -> None:
    jobs = sa.table("jobs", *(sa.column(name) for name in ("id", "api_key_id", *OWNED.values())))
    for name, column in OWNED.items():
        op.add_column(name, sa.Column("api_key_id", sa.BigInteger(), nullable=True))
        op.create_foreign_key(op.f(f"fk_{name}_api_key_id_api_keys"), name, "api_keys", ["api_key_id"], ["id"])
        table = sa.table(name, sa.column("id"), sa.column("api_key_id"))
        of_record = sa.select(jobs.c.api_key_id).where(jobs.c[column] == table.c.id)
        op.execute(sa.update(table).values(api_key_id=of_record.order_by(jobs.c.id).limit(1).scalar_subquery()))


def downgrade() -> None:
    for name in OWNED:
        op.drop_column(name, "api_key_id")
