"""Indexes by which the next item, and a person's votes, are found without walking over everybody's."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Go forward."""
    op.drop_index("ix_item_next", "item")
    op.create_index("ix_item_open", "item", ["task_id", "taken", "priority", "id"])
    op.create_index("ix_vote_of_person", "vote", ["account_id", "task_id", "undoes"])


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_vote_of_person", "vote")
    op.drop_index("ix_item_open", "item")
    op.create_index("ix_item_next", "item", ["task_id", "priority", "id"])
