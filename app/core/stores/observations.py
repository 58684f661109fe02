"""The durable local store of observations: bytes by key in one SQLite file, with a size cap.

Every `put` is one transaction, so a killed scan leaves whole chunks or nothing. Above the cap what was used longest ago
goes first.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from detectors.errors import StoreError

BUSY_SECONDS = 30
REFRESH_SECONDS = 3600
"""How stale a last-use mark may get before reading renews it."""
KEPT_AFTER_EVICTION = 0.9
"""Share of the cap that eviction leaves."""
KEYS_A_QUERY = 500

SCHEMA = """
CREATE TABLE IF NOT EXISTS observation (key BLOB PRIMARY KEY, data BLOB NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS observation_used ON observation (used);
"""


class SqliteStore:
    """Observations in an SQLite file (write-ahead log). Several scans may share it.

    Args:
        path: the file; it and its directory are made when missing.
        cap_bytes: size at which eviction starts.

    Raises:
        StoreError: if the file cannot be opened, read or written; nothing is kept of the failed call.
    """

    def __init__(self, path: Path, cap_bytes: int) -> None:
        self._path = path
        self._cap_bytes = cap_bytes
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(SCHEMA)

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is known of `keys`."""
        found: dict[str, bytes] = {}
        with self._errors():
            for part in _parts(keys):
                marks = ",".join("?" * len(part))
                query = f"SELECT key, data, used FROM observation WHERE key IN ({marks})"  # noqa: S608  only marks
                rows = self._connection.execute(query, [bytes.fromhex(key) for key in part]).fetchall()
                found |= {key.hex(): data for key, data, _ in rows}
                self._refresh([key for key, _, used in rows if used < time.time() - REFRESH_SECONDS])
        return found

    def put(self, observations: Mapping[str, bytes]) -> None:
        """Keeps all of `observations` in one transaction."""
        now = int(time.time())
        rows = [(bytes.fromhex(key), data, now) for key, data in observations.items()]
        with self._errors(), self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO observation VALUES (?, ?, ?)", rows)
        with self._errors():
            self._evict()

    def size_bytes(self) -> int:
        """Bytes in use, without pages that eviction freed."""
        with self._errors():
            pages, free, size = (
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refresh(self, keys: list[bytes]) -> None:
        if keys:
            with self._transaction():
                now = int(time.time())
                rows = [(now, key) for key in keys]
                self._connection.executemany("UPDATE observation SET used = ? WHERE key = ?", rows)

    def _evict(self) -> None:
        excess = self.size_bytes() - self._cap_bytes
        if excess <= 0:
            return
        excess += int((1 - KEPT_AFTER_EVICTION) * self._cap_bytes)
        with self._transaction():
            oldest = self._connection.execute("SELECT key, length(data) FROM observation ORDER BY used, key")
            doomed = list(_until(oldest, excess))
            self._connection.executemany("DELETE FROM observation WHERE key = ?", doomed)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has rolled back already
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the observation store {str(self._path)!r} cannot be used: {error}; free space on that disk, or name "
                "another place with TOUCHSTONE_CACHE_DIR, and start the scan again: what is stored is not paid twice"
            ) from error


def _until(rows: Iterator[tuple[bytes, int]], excess: int) -> Iterator[tuple[bytes]]:
    freed = 0
    for key, size in rows:
        if freed >= excess:
            return
        freed += size
        yield (key,)


def _parts(keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for first in range(0, len(keys), KEYS_A_QUERY):
        yield tuple(keys[first : first + KEYS_A_QUERY])
