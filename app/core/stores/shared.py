"""The observation store of several machines: the same promise as the local one, in the service's database.

Observations are values: whoever writes one writes the same bytes, so the first write stands and nothing is fenced. Rows
are always locked in the order of their keys, or not waited for, so that workers cannot lock each other out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from sqlalchemy import delete, func, select, update

from app.core.database import Database, clock, insert_new
from app.core.settings import Settings
from app.core.stores.observations import KEPT_AFTER_EVICTION, REFRESH_SECONDS, SqliteStore
from app.core.tables import Observation

T = TypeVar("T")

KEYS_A_QUERY = 2_000
ROWS_A_STATEMENT = 200
EVICTED_AT_ONCE = 5_000
UNLOOKED = 0.02
"""Summing all sizes takes a while: it is done when this share of the cap was written since it was done last."""


class DatabaseStore:
    """Observations in a table. Any number of workers may share it.

    Args:
        database: PostgreSQL, where there are several machines.
        cap_bytes: size at which eviction starts; each worker may write `UNLOOKED` of it before it sees that.
    """

    def __init__(self, database: Database, cap_bytes: int) -> None:
        self._database = database
        self._cap_bytes = cap_bytes
        self._unlooked = cap_bytes

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is known of `keys`."""
        found: dict[str, bytes] = {}
        for part in _parts([bytes.fromhex(key) for key in keys], KEYS_A_QUERY):
            wanted = select(Observation.key, Observation.data).where(Observation.key.in_(part))
            stale = select(Observation.key).where(
                Observation.key.in_(part), Observation.used < clock() - REFRESH_SECONDS
            )
            with self._database.reading() as session:
                found |= {key.hex(): data for key, data in session.execute(wanted)}
                refresh = session.scalars(stale).all()
            if refresh:
                self._refresh(refresh)
        return found

    def put(self, observations: Mapping[str, bytes]) -> None:
        """Keeps all of `observations` in one transaction."""
        rows = [{"key": bytes.fromhex(key), "data": data} for key, data in sorted(observations.items())]
        with self._database.writing() as session:
            now = session.scalar(select(clock()))
            for part in _parts(rows, ROWS_A_STATEMENT):
                insert_new(session, Observation, [row | {"used": now} for row in part])
        self._unlooked += sum(map(len, observations.values()))
        if self._unlooked > UNLOOKED * self._cap_bytes:
            self._unlooked = 0
            while self._evict():
                pass

    def _refresh(self, keys: Sequence[bytes]) -> None:
        unlocked = select(Observation.key).where(Observation.key.in_(keys)).with_for_update(skip_locked=True)
        with self._database.writing() as session:
            session.execute(update(Observation).where(Observation.key.in_(unlocked)).values(used=clock()))

    def _evict(self) -> bool:
        """What was used longest ago goes first; whether there is more to go."""
        with self._database.writing() as session:
            excess = (session.scalar(select(func.sum(func.length(Observation.data)))) or 0) - self._cap_bytes
            if excess <= 0:
                return False
            excess += int((1 - KEPT_AFTER_EVICTION) * self._cap_bytes)
            oldest = select(Observation.key, func.length(Observation.data)).order_by(Observation.used, Observation.key)
            doomed: list[bytes] = []
            for key, size in session.execute(oldest.limit(EVICTED_AT_ONCE).with_for_update(skip_locked=True)):
                if excess <= 0:
                    break
                doomed.append(key)
                excess -= size
            session.execute(delete(Observation).where(Observation.key.in_(doomed)))
        return excess > 0 and bool(doomed)


def open_store(settings: Settings, database: Database) -> SqliteStore | DatabaseStore:
    """A file of its own on one machine, a table for several."""
    if database.on_sqlite:
        return SqliteStore(settings.store_path, settings.store_cap_bytes)
    return DatabaseStore(database, settings.store_cap_bytes)


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
