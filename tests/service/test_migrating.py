"""The schema that the versions make is the one that the code expects, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from app.core.database import Database
from app.core.migrating import migrate
from app.core.tables import Table


def test_the_versions_make_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []


def test_names_of_constraints_are_those_of_the_code(database: Database) -> None:
    with database.engine.connect() as connection:
        found = inspect(connection)
        for name, table in Table.metadata.tables.items():
            assert found.get_pk_constraint(name)["name"] == table.primary_key.name
            assert {it["name"] for it in found.get_foreign_keys(name)} == {
                it.name for it in table.foreign_key_constraints
            }


def test_several_may_start_at_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, databases))
    migrate(databases[0])
    with databases[0].engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {*Table.metadata.tables, "alembic_version"}
    for database in databases:
        database.close()
