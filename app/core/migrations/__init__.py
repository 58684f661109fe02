"""Versions of the schema, for Alembic; `app.core.migrating` applies them."""
