"""Alembic's entry: runs the steps on the connection that `database.Database.migrate` hands over."""

from alembic import context

from primum.studio.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
