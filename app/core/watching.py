"""Watching scans: many wait for changes of many scans, and one query at a time looks for them.

What a watcher sees are states, not steps: of several changes between two looks it gets the last one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import select

from app.core.database import Database
from app.core.tables import ENDED, Scan
from detectors.errors import DatabaseUnavailable

log = logging.getLogger("touchstone.watching")

LOOK_S = 0.5
"""Seconds between two looks."""
IDS_A_QUERY = 500


class Watch:
    """One poller for all watchers of a process. It looks only while somebody watches.

    Args:
        database: where scans are.
        look_s: seconds between two looks.
    """

    def __init__(self, database: Database, look_s: float = LOOK_S) -> None:
        self._database = database
        self._look_s = look_s
        self._bells: dict[str, set[asyncio.Event]] = {}
        self._latest: dict[str, Scan] = {}
        self._poller: asyncio.Task[None] | None = None

    async def changes(self, scan: Scan, seen: int, for_s: float) -> AsyncIterator[Scan]:
        """The scan whenever it has changed, until it has ended or the time is over.

        Args:
            scan: as it was read a moment ago.
            seen: version that the watcher knows already.
            for_s: seconds to watch.
        """
        until = asyncio.get_running_loop().time() + for_s
        bell = self._enter(scan.id)
        try:
            while True:
                if scan.version > seen:
                    seen = scan.version
                    yield scan
                if scan.state in ENDED or not await _rung(bell, until):
                    return
                scan = self._latest.get(scan.id, scan)
        finally:
            self._leave(scan.id, bell)

    async def until_ended(self, scan: Scan, for_s: float) -> None:
        """Waits until the scan has ended or the time is over."""
        async for _ in self.changes(scan, scan.version, for_s):
            pass

    async def close(self) -> None:
        """Stops looking."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    def _enter(self, scan_id: str) -> asyncio.Event:
        bell = asyncio.Event()
        self._bells.setdefault(scan_id, set()).add(bell)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        return bell

    def _leave(self, scan_id: str, bell: asyncio.Event) -> None:
        self._bells[scan_id].discard(bell)
        if not self._bells[scan_id]:
            del self._bells[scan_id]
            self._latest.pop(scan_id, None)

    async def _poll(self) -> None:
        while self._bells:
            try:
                self._tell(await asyncio.to_thread(self._read, sorted(self._bells)))
            except DatabaseUnavailable as error:
                log.warning("%s", error)
            await asyncio.sleep(self._look_s)

    def _read(self, ids: Sequence[str]) -> list[Scan]:
        parts = [ids[first : first + IDS_A_QUERY] for first in range(0, len(ids), IDS_A_QUERY)]
        with self._database.reading() as session:
            return [scan for part in parts for scan in session.scalars(select(Scan).where(Scan.id.in_(part)))]

    def _tell(self, found: Sequence[Scan]) -> None:
        for scan in found:
            known = self._latest.get(scan.id)
            if scan.id in self._bells and (known is None or known.version != scan.version):
                self._latest[scan.id] = scan
                for bell in self._bells[scan.id]:
                    bell.set()


async def _rung(bell: asyncio.Event, until: float) -> bool:
    """Whether the bell rang in time."""
    try:
        async with asyncio.timeout_at(until):
            await bell.wait()
    except TimeoutError:
        return False
    bell.clear()
    return True
