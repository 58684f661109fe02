"""The observation store of several machines: the same promise as the local one, in PostgreSQL.

Observations are values: whoever writes one writes the same bytes, so the first write stands and nothing is fenced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.core.database import Database, clock
from app.core.settings import Settings
from app.core.stores.observations import KEPT_AFTER_EVICTION, REFRESH_SECONDS, SqliteStore
from app.core.tables import Observation

T = TypeVar("T")

KEYS_A_QUERY = 2_000
ROWS_A_WRITE = 200
EVICTED_AT_ONCE = 5_000
PUTS_A_LOOK = 50
"""Summing all sizes takes a while; between two looks the store may grow above its cap."""


class DatabaseStore:
    """Observations in a table. Any number of workers may share it.

    Args:
        database: PostgreSQL.
        cap_bytes: size at which eviction starts.
    """

    def __init__(self, database: Database, cap_bytes: int) -> None:
        self._database = database
        self._cap_bytes = cap_bytes
        self._puts = 0

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is known of `keys`."""
        found: dict[str, bytes] = {}
        for part in _parts([bytes.fromhex(key) for key in keys], KEYS_A_QUERY):
            with self._database.writing() as session:
                rows = session.execute(select(Observation.key, Observation.data).where(Observation.key.in_(part))).all()
                found |= {key.hex(): data for key, data in rows}
                stale = (Observation.key.in_(part), Observation.used < clock() - REFRESH_SECONDS)
                session.execute(update(Observation).where(*stale).values(used=clock()))
        return found

    def put(self, observations: Mapping[str, bytes]) -> None:
        """Keeps all of `observations`, those first that fit into one transaction."""
        rows = [{"key": bytes.fromhex(key), "data": data, "used": clock()} for key, data in observations.items()]
        for part in _parts(rows, ROWS_A_WRITE):
            with self._database.writing() as session:
                session.execute(insert(Observation).values(part).on_conflict_do_nothing())
        self._puts += 1
        if self._puts % PUTS_A_LOOK == 1:
            self._evict()

    def _evict(self) -> None:
        """What was used longest ago goes first."""
        with self._database.writing() as session:
            excess = (session.scalar(select(func.sum(func.pg_column_size(Observation.data)))) or 0) - self._cap_bytes
            if excess <= 0:
                return
            excess += int((1 - KEPT_AFTER_EVICTION) * self._cap_bytes)
            oldest = select(Observation.key, func.length(Observation.data)).order_by(Observation.used, Observation.key)
            doomed, freed = [], 0
            for key, size in session.execute(oldest.limit(EVICTED_AT_ONCE)):
                if freed >= excess:
                    break
                doomed.append(key)
                freed += size
            session.execute(delete(Observation).where(Observation.key.in_(doomed)))


def open_store(settings: Settings, database: Database) -> SqliteStore | DatabaseStore:
    """A file of its own on one machine, a table for several."""
    if database.on_sqlite:
        return SqliteStore(settings.store_path, settings.store_cap_bytes)
    return DatabaseStore(database, settings.store_cap_bytes)


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
