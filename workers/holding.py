"""Holding a lease while one works: a thread renews it and watches for a cancelled scan.

What works calls `watch` between its steps, and learns there that the scan was cancelled, the lease lost, or the worker
told to stop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy import select

from app.core.database import Database
from app.core.leases import Lease, renew
from app.core.tables import Scan
from detectors.errors import DatabaseUnavailable, LeaseLost, ScanCancelled, WorkerStopping

LOOK_S = 1.0
"""Seconds between two looks for a cancelled scan."""
RENEWALS = 6
"""How often a lease is renewed in its time."""


class Held:
    """A lease that is renewed until this is left.

    Args:
        lease_s: how long a claim lasts.
        stopping: whether the worker was told to stop.
    """

    def __init__(self, database: Database, lease: Lease, lease_s: float, stopping: Callable[[], bool]) -> None:
        self.lease = lease
        self._database, self._lease_s, self._stopping = database, lease_s, stopping
        self._left = threading.Event()
        self._lost = self._cancelled = False
        self._until = time.monotonic() + lease_s
        self._thread = threading.Thread(target=self._keep, name=f"lease of {lease.chunk_id}", daemon=True)

    def watch(self) -> None:
        """Looks up from the work.

        Raises:
            ScanCancelled: if the scan was cancelled.
            LeaseLost: if the lease ended, or may have ended because the database was away.
            WorkerStopping: if the worker was told to stop.
        """
        if self._cancelled:
            raise ScanCancelled("the scan was cancelled; what it had observed is kept and not paid again")
        if self._lost or time.monotonic() > self._until:
            raise LeaseLost("the lease was lost: this worker was silent for too long, and another one takes over")
        if self._stopping():
            raise WorkerStopping("the worker was told to stop; another one takes over")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._left.set()
        self._thread.join()

    def _keep(self) -> None:
        renewed = time.monotonic()
        while not self._left.wait(min(LOOK_S, self._lease_s / RENEWALS)) and not self._lost:
            due = time.monotonic() - renewed > self._lease_s / RENEWALS
            try:
                self._look()
                if due:
                    renewed = time.monotonic()
                    self._renew(renewed)
            except DatabaseUnavailable:
                continue  # it may be back before the lease ends; `watch` knows when it has

    def _look(self) -> None:
        with self._database.reading() as session:
            self._cancelled = bool(session.scalar(select(Scan.cancel_requested).where(Scan.id == self.lease.scan_id)))

    def _renew(self, now: float) -> None:
        with self._database.writing() as session:
            self._lost = not renew(session, self.lease, self._lease_s)
        if not self._lost:
            self._until = now + self._lease_s
