"""What a reviewer says of a demonstration in their own words, for who wrote it."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Go forward; nothing was said before."""
    op.add_column("demonstration_review", sa.Column("note", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Go back."""
    op.drop_column("demonstration_review", "note")
