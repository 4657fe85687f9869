"""How many variants answer a prompt that is written in a task."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Go forward; two answered in the task of written prompts, and in no other."""
    op.add_column("task", sa.Column("variants", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE task SET variants = 2 WHERE name = 'Written here' AND kind = 'prefer'")


def downgrade() -> None:
    """Go back."""
    op.drop_column("task", "variants")
