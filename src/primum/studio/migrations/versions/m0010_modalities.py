"""In which modality a task's items are: who works on them may have to be certified for it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Go forward; what was there is text."""
    for table in ("task", "item"):
        op.add_column(table, sa.Column("modality", sa.String(length=20), nullable=False, server_default="text"))


def downgrade() -> None:
    """Go back."""
    for table in ("item", "task"):
        op.drop_column(table, "modality")
