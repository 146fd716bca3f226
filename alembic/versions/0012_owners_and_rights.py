"""Models and data sets have an owner; keys have a group, a quota of network rows and bytes, and rights for jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

OWNED = ("models", "datasets")
LIMITS = {"network_rows_per_day": 0, "stored_bytes": 0, "devices": 1}
"""New limits of a key, and the least value of each."""


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("group_name", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_api_keys_group_name"), "api_keys", "length(group_name) BETWEEN 1 AND 100")
    op.add_column("api_keys", sa.Column("priority", sa.Integer(), nullable=True))
    for name, least in LIMITS.items():
        kind = sa.Integer() if name == "devices" else sa.BigInteger()
        op.add_column("api_keys", sa.Column(name, kind, nullable=True))
        op.create_check_constraint(op.f(f"ck_api_keys_{name}"), "api_keys", f"{name} >= {least}")
    for table in OWNED:
        op.add_column(table, sa.Column("api_key_id", sa.BigInteger(), nullable=True))
        op.create_foreign_key(op.f(f"fk_{table}_api_key_id_api_keys"), table, "api_keys", ["api_key_id"], ["id"])


def downgrade() -> None:
    for table in OWNED:
        op.drop_column(table, "api_key_id")
    for name in (*LIMITS, "priority", "group_name"):
        op.drop_column("api_keys", name)
