"""A part of a generate job says what kind of device has drawn it, for the archive's facts."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generate_parts", sa.Column("drawn_on", sa.Text()))


def downgrade() -> None:
    op.drop_column("generate_parts", "drawn_on")
