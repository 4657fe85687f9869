"""Rounds of a task, reward-model scores of its items, and links that reset a password."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "round",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("newest", sa.String(length=200), nullable=False),
        sa.Column("previous", sa.String(length=200), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("at", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task_id", "number"),
    )
    op.add_column("item", sa.Column("round", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("item", sa.Column("rewards", sa.Text(), nullable=True))
    op.add_column("invitation", sa.Column("account_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("invitation", "account_id")
    op.drop_column("item", "rewards")
    op.drop_column("item", "round")
    op.drop_table("round")
