"""The history of the database, step by step, forward and back (Alembic)."""
