"""Accounts that a provider vouches for, and sign-ins under way."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Go forward."""
    op.add_column("account", sa.Column("subject", sa.String(length=600), nullable=True))
    op.create_index("account_subject", "account", ["subject"], unique=True)
    op.create_table(
        "flow",
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("sign_in", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("verifier", sa.String(length=128), nullable=False),
        sa.Column("invitation", sa.String(length=64), nullable=True),
        sa.Column("at", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("state"),
    )


def downgrade() -> None:
    """Go back."""
    op.drop_table("flow")
    op.drop_index("account_subject", "account")
    op.drop_column("account", "subject")
