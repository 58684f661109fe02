"""The database: SQLite on one machine, PostgreSQL for several, the same code for both.

A write on SQLite takes the lock at its beginning (`BEGIN IMMEDIATE`), so it never fails half-way for another's sake. On
both, what must not happen twice is one conditional UPDATE or a unique key, never a read followed by a write. Times are
seconds since 1970 by the database's clock (`clock`), never by the caller's: leases of several machines are compared by
one clock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, Float, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from app.core.tables import Table
from detectors.errors import DatabaseUnavailable

BUSY_SECONDS = 20
"""How long a write waits for another to end before it gives up."""
CONNECT_SECONDS = 5
UNAVAILABLE = (OperationalError, InterfaceError, TimeoutError, sqlite3.OperationalError)


class clock(FunctionElement[float]):
    """Seconds since 1970 by the database's clock."""

    type = Float()
    inherit_cache = True


@compiles(clock, "sqlite")
def _sqlite_clock(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgresql_clock(*_: Any, **__: Any) -> str:
    return "extract(epoch FROM clock_timestamp())::float"


class Database:
    """Reads and writes in transactions.

    Args:
        url: `sqlite:///PATH` or `postgresql+psycopg://…`; a plain `postgresql://…` is read as the latter.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.on_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self.url) if self.on_sqlite else _postgresql(self.url)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is committed at the end, or rolled back by whatever is raised.

        Raises:
            DatabaseUnavailable: if it cannot be reached or stays locked.
        """
        with self._told(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            session.connection(execution_options={"writes": True})
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that writes nothing.

        Raises:
            DatabaseUnavailable: if it cannot be reached.
        """
        with self._told(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Closes idle connections."""
        self.engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UNAVAILABLE as error:
            cause = getattr(error, "orig", None) or error
            raise DatabaseUnavailable(
                f"the database {self.url.render_as_string(hide_password=True)!r} cannot be used: {cause}; "
                "see that it runs and has space, and try again"
            ) from error


def insert_new(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> int:
    """Adds those rows whose primary key is not there yet; how many. Waits for whoever adds the same right now."""
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table).values(rows).on_conflict_do_nothing().returning(*table.__table__.primary_key)
    return len(session.execute(statement).all())


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            # a process that is paused in a transaction must not hold its locks for longer than others wait for them
            "options": f"-c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout={BUSY_SECONDS // 2}s",
        },
    )


def _sqlite(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where `_begin` says, not where the driver thinks
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
