"""A worker: claims a chunk, drives the scan or observes the piece that it stands for, and commits.

What goes wrong on the way is settled here, in one place: a scan that cannot be is failed with its reason, a fault of
the machine queues the chunk again, and a lost lease changes nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from app.core import leases, scans
from app.core.database import Database
from app.core.dispatch import Doorbell
from app.core.leases import Lease
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.stores.shared import open_store
from app.core.tables import Chunk, Scan
from detectors.engine.observations import Role
from detectors.errors import (
    DatabaseUnavailable,
    InputError,
    LeaseLost,
    ScanCancelled,
    TouchstoneError,
    WorkerStopping,
)
from workers.banks import find_bank
from workers.driving import Drive, open_pinned
from workers.holding import Held
from workers.hosts import Host
from workers.machine import preferred_device, preferred_dtype
from workers.observer import Observer
from workers.scan import Pair
from workers.sharing import Place, SharedObserver, observe
from workers.warm import Loaded, WarmBase

log = logging.getLogger("touchstone.worker")

LINGER_S = 2.0
"""How long a helper, its models loaded, waits for further pieces of the same scan."""
POLL_S = 0.2

AnObserver = TypeVar("AnObserver", bound=Observer)


class Worker:
    """One process that works on chunks, one at a time.

    Args:
        settings: of the service.
        stopping: whether this process was told to stop.
    """

    def __init__(self, settings: Settings, stopping: Callable[[], bool] = lambda: False) -> None:
        self.settings = settings
        database = Database(settings.database)
        name = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self.place = Place(name, database, open_store(settings, database), settings.lease_s, stopping)
        self.blobs = Blobs(settings.blobs)
        self.doorbell = Doorbell(settings.broker_url.get_secret_value(), database)
        self._warm = WarmBase()

    def work(self, chunk_id: str) -> None:
        """Does what a chunk asks for, if it is free."""
        try:
            lease = leases.claim(self.place.database, chunk_id, self.place.name, self.place.lease_s)
        except DatabaseUnavailable as error:
            log.warning("chunk %s waits: %s", chunk_id, error)  # its message will count as lost
            return
        if lease is None:
            return
        if lease.kind == "observe":
            self._help(lease)
            return
        with self._settling(lease) as held:
            Drive(self, held).run()

    def close(self) -> None:
        """Ends the warm host and closes all connections."""
        self._warm.end()
        self.doorbell.close()
        self.place.database.close()

    def dtype(self) -> str:
        """Of the scans that this worker begins."""
        return preferred_dtype(self._device()) if self.settings.dtype == "auto" else self.settings.dtype

    @contextmanager
    def shared_observer(self, pair: Pair, dtype: str, held: Held) -> Iterator[SharedObserver]:
        """A driver's observer."""
        kind = partial(SharedObserver, place=self.place, held=held, doorbell=self.doorbell)
        with self._observing(kind, pair, dtype, held.watch) as observer:
            yield observer

    @contextmanager
    def _observing(
        self, kind: Callable[..., AnObserver], pair: Pair, dtype: str, watch: Callable[[], None]
    ) -> Iterator[AnObserver]:
        """An observer of the pair whose base's host outlives it, if there is room for it beside another's."""
        device = self._device()
        loaded: dict[Role, Loaded] = {
            role: Loaded(pair.host_spec(role, dtype, device, self.settings), model.content)
            for role, model in pair.models().items()
        }
        self._warm.keep_only(loaded["base"])
        resident = pair.resident(dtype, self.settings)
        if resident == 1:
            self._warm.keep_only(None)

        def give_back(role: Role, host: Host) -> None:
            self._warm.give_back(loaded[role], role, host) if resident > 1 else host.end()

        observer = kind(
            pair.models(),
            dtype,
            self.place.store,
            lambda role: self._warm.start(loaded[role], role, watch),
            resident=resident,
            watch=watch,
            end_host=give_back,
            message_tokens=self.settings.message_tokens,
            files=pair.files(),
            weight_files=pair.subject.weight_files(),
            bank=find_bank(pair.models(), dtype, self.settings.banks_dir),
        )
        try:
            yield observer
        finally:
            observer.end()

    def _device(self) -> str:
        return preferred_device() if self.settings.device == "auto" else self.settings.device

    def _help(self, first: Lease) -> None:
        """Observes a piece of somebody's scan, and further ones while there are some: the models are loaded."""
        with ExitStack() as kept:
            observer: Observer | None = None
            lease: Lease | None = first
            watched: list[Held] = []
            while lease is not None:
                broken = True
                with self._settling(lease) as held:
                    watched[:] = [held]
                    observer = observer or kept.enter_context(self._helper(lease, lambda: watched[0].watch()))
                    observe(self.place, observer.compute, lease)
                    broken = False
                lease = None if broken else self._next(lease.scan_id)

    @contextmanager
    def _helper(self, lease: Lease, watch: Callable[[], None]) -> Iterator[Observer]:
        with self.place.database.reading() as session:
            found = session.get_one(Scan, lease.scan_id)
        pair = open_pinned(found, self.settings, watch)
        with self._observing(Observer, pair, str(found.dtype), watch) as observer:
            yield observer

    def _next(self, scan_id: str) -> Lease | None:
        """Another free piece of the scan, if one comes up soon."""
        until = time.monotonic() + LINGER_S
        while time.monotonic() < until and not self.place.stopping():
            try:
                lease = leases.claim_next(self.place.database, scan_id, self.place.name, self.place.lease_s)
            except DatabaseUnavailable as error:
                log.warning("a helper stops: %s", error)
                return None
            if lease is not None:
                return lease
            time.sleep(POLL_S)
        return None

    @contextmanager
    def _settling(self, lease: Lease) -> Iterator[Held]:
        """Holds a lease. The one place where faults of the service's work are caught, and what they mean is written."""
        try:
            with self.place.holding(lease) as held:
                try:
                    yield held
                except Exception as error:
                    self._settle(lease, error)
        except DatabaseUnavailable as error:
            log.error("chunk %s waits for its lease to end: %s", lease.chunk_id, error)
        except LeaseLost as error:
            log.warning("chunk %s: %s", lease.chunk_id, error)

    def _settle(self, lease: Lease, error: Exception) -> None:
        if isinstance(error, LeaseLost):
            raise error
        if isinstance(error, WorkerStopping):
            self._give_back(lease)
        elif isinstance(error, ScanCancelled | InputError) and lease.kind == "drive":
            values = {} if isinstance(error, ScanCancelled) else {"error_code": error.code, "error_message": str(error)}
            with self.place.database.writing() as session:
                scans.end(session, lease, "failed" if values else "canceled", **values)
        elif not isinstance(error, ScanCancelled):  # a cancelled piece is dropped with its scan, by its driver
            self._retry(lease, error)

    def _give_back(self, lease: Lease) -> None:
        with self.place.database.writing() as session:
            queue = session.get_one(Chunk, lease.chunk_id).queue
            held = leases.give_back(session, lease)
        if held:
            self.doorbell.ring([(lease.chunk_id, queue)])

    def _retry(self, lease: Lease, error: Exception) -> None:
        """A fault of the machine: tried again, as often as leases allow."""
        known = isinstance(error, TouchstoneError)
        log.error("chunk %s: %s", lease.chunk_id, error, exc_info=None if known else error)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        with self.place.database.writing() as session:
            leases.retry(session, lease, reason[:1000])
            scans.settle(session, lease.scan_id)
