"""What judges say of an item's replies, what a person wants blurred, and who a red-teamer was at the time."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Go forward; a dialogue from before takes what its person's account says now."""
    op.add_column("item", sa.Column("harm", sa.Text(), nullable=True))
    op.add_column("account", sa.Column("blur", sa.String(length=10), nullable=False, server_default=""))
    for name in ("expertise", "team"):
        op.add_column("dialogue", sa.Column(name, sa.String(length=200), nullable=False, server_default=""))
        of_account = f"SELECT a.{name} FROM account a WHERE a.id = dialogue.account_id"
        op.execute(f"UPDATE dialogue SET {name} = COALESCE(({of_account}), '')")


def downgrade() -> None:
    """Go back."""
    op.drop_column("dialogue", "team")
    op.drop_column("dialogue", "expertise")
    op.drop_column("account", "blur")
    op.drop_column("item", "harm")
