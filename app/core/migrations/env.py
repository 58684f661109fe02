"""What Alembic runs: the versions, within the transaction of whoever migrates."""

from __future__ import annotations

from alembic import context

from app.core.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
with context.begin_transaction():
    context.run_migrations()
