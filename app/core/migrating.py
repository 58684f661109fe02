"""Bringing the database's schema up to date: by whoever starts first, while the others wait.

The schema that the versions make and `app.core.tables` are compared by a test on both databases.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from app.core.database import Database

LOCK = 0x70C57
"""Of PostgreSQL's advisory locks; SQLite's one writer needs none."""


def migrate(database: Database) -> None:
    """Applies the versions that are missing, all or none of them. Does nothing where none is.

    Raises:
        DatabaseUnavailable: if the database cannot be reached, or somebody else's migration takes too long.
    """
    with database.writing() as session:
        connection = session.connection()
        if not database.on_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
        command.upgrade(config, "head")
