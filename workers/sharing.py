"""Plans that several workers observe: fork and join by work stealing.

A plan that is more than one message is cut into chunks in the database. Idle workers are rung for and help; the driver
takes the next piece nobody works on until all are in. So one worker suffices, and several share the work. How a plan is
cut follows from what the store lacks when it is asked, so before a driver that takes over asks anything, it finishes
the pieces that were cut before it: then it finds what it would have found, and asks the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core import leases, scans
from app.core.database import Database
from app.core.dispatch import Doorbell
from app.core.leases import Lease
from app.core.tables import Chunk
from detectors.engine.observations import Arrays, Request, Role, Store, unpack
from detectors.errors import HostError, InputError, WorkerStopping
from workers.chunks import chunk_key, pack_requests, unpack_requests
from workers.holding import Held
from workers.observer import Observer

POLL_S = 0.3
"""Seconds between two looks at chunks that others work on."""


@dataclass(frozen=True)
class Place:
    """Where a worker works, and as whom.

    Attributes:
        stopping: whether the worker was told to stop.
    """

    name: str
    database: Database
    store: Store
    lease_s: float
    stopping: Callable[[], bool]

    def holding(self, lease: Lease) -> Held:
        """Holds a lease."""
        return Held(self.database, lease, self.lease_s, self.stopping)


class SharedObserver(Observer):
    """The driver's observer.

    Args:
        place: where it works.
        held: the lease that drives the scan.
        doorbell: calls for help.
    """

    def __init__(self, *arguments: Any, place: Place, held: Held, doorbell: Doorbell, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._place, self._held, self._doorbell = place, held, doorbell
        self._own: set[str] = set()

    def finish_earlier(self) -> None:
        """Finishes the pieces that an earlier driver of this scan left."""
        while self._take() or self._any_open():
            pass

    def compute(self, role: Role, requests: Sequence[Request]) -> dict[str, Arrays]:
        """As any observer does, with the help of others."""
        parts = self._messages(requests)
        if len(parts) == 1:
            found = super().compute(role, requests)
            self._advance()
            return found
        waiting = self._enqueue(role, parts)
        found = {}
        while waiting:
            took = self._take()
            for key in self._finished(waiting):
                found |= self._collect(role, waiting.pop(key), counted=key in self._own)
            if waiting and not took:
                self._pause()
        return found

    def _advance(self) -> None:
        with self._place.database.writing() as session:
            leases.advance(session, self._held.lease)  # where it is no longer ours, the next step forward says so

    def _enqueue(self, role: Role, parts: Sequence[Sequence[Request]]) -> dict[str, Sequence[Request]]:
        """Rows for all parts; those that an earlier attempt made are taken as they are."""
        keyed = {chunk_key([request.key() for request in part]): part for part in parts}
        bodies = {key: pack_requests(part) for key, part in keyed.items()}
        with self._place.database.writing() as session:
            fresh = scans.enqueue(session, self._held.lease, role, bodies)
        self._doorbell.ring(fresh[1:])  # the first is ours
        return keyed

    def _take(self) -> bool:
        """Observes one piece that nobody works on; whether there was one."""
        place = self._place
        lease = leases.claim_next(place.database, self._held.lease.scan_id, place.name, place.lease_s)
        if lease is None:
            return False
        with place.holding(lease):
            self._own.add(observe(place, super().compute, lease))
        return True

    def _finished(self, waiting: Mapping[str, object]) -> list[str]:
        """Those of the chunks that are done.

        Raises:
            HostError: if one failed.
        """
        scan_id, keys = self._held.lease.scan_id, list(waiting)
        with self._place.database.reading() as session:
            states = scans.chunk_states(session, scan_id, keys)
        errors = [states[key][1] for key in keys if states[key][0] == "failed"]
        if errors:
            with self._place.database.writing() as session:
                scans.fail_queued(session, scan_id, keys, errors[0])
            raise HostError(errors[0])
        return [key for key in keys if states[key][0] == "done"]

    def _collect(self, role: Role, part: Sequence[Request], *, counted: bool) -> dict[str, Arrays]:
        """The answers to a chunk that is done; what was evicted meanwhile is computed again."""
        known = {key: unpack(data) for key, data in self._store.get([request.key() for request in part]).items()}
        there = [request for request in part if request.key() in known]
        if not counted:
            self._count(there, [known[request.key()] for request in there])
            self.progress()
        evicted = [request for request in part if request.key() not in known]
        return known | (super().compute(role, evicted) if evicted else {})

    def _any_open(self) -> bool:
        with self._place.database.reading() as session:
            found = scans.count_open(session, self._held.lease.scan_id) > 0
        if found:
            self._pause()
        return found

    def _pause(self) -> None:
        self._watch()
        time.sleep(POLL_S)


def observe(place: Place, compute: Callable[[Role, Sequence[Request]], object], lease: Lease) -> str:
    """Observes the piece that a lease is for, and commits; the chunk's key.

    A host that fails again and again is the piece's fault, not the machine's: the chunk has failed then.
    """
    with place.database.reading() as session:
        chunk = session.get_one(Chunk, lease.chunk_id)
    try:
        role: Role = "subject" if chunk.role == "subject" else "base"
        requests = unpack_requests(chunk.body) if chunk.body else []  # it was dropped with its scan
        known = place.store.get([request.key() for request in requests])
        missing = [request for request in requests if request.key() not in known]
        if missing:
            compute(role, missing)
    except (HostError, InputError) as error:
        with place.database.writing() as session:
            leases.fail(session, lease, str(error))
    except WorkerStopping:
        with place.database.writing() as session:
            leases.give_back(session, lease)
        raise
    else:
        with place.database.writing() as session:
            leases.commit(session, lease)
    return chunk.key
