"""A worker: claims a chunk, drives the scan or observes the piece that it stands for, and commits.

Driving is replaying: the detectors run from the start, and whatever is stored costs nothing. What a driver lacks it
computes itself; a plan that is large is cut into chunks that idle workers help with, and the driver takes the next
piece nobody works on until all are in (fork and join by work stealing). So one worker suffices, several share the work,
and a driver that dies is replaced by another, which finds everything that was observed.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from app.core import leases, scans
from app.core.database import Database, clock
from app.core.deciding import decision_on, policy_named, read_report
from app.core.dispatch import Doorbell
from app.core.registries.bases import infer_base
from app.core.registries.resolving import Pinned, fetch, resolve
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.stores.shared import open_store
from app.core.tables import ENDED, Chunk, Scan
from detectors.engine.observations import Arrays, Request, Role, Store, unpack
from detectors.errors import (
    HostError,
    InputError,
    LeaseLost,
    MachineError,
    ReferenceMoved,
    ScanCancelled,
    TouchstoneError,
)
from detectors.findings import ExpectedBehaviour
from detectors.report import Report
from detectors.suites import SUITES
from workers.chunks import chunk_key, pack_requests, unpack_requests
from workers.holding import Held
from workers.hosts import Host
from workers.machine import preferred_device, preferred_dtype
from workers.observer import Observer, in_messages
from workers.progress import Reading, Tracker
from workers.scan import Pair, open_pair, scan
from workers.warm import WarmBase

log = logging.getLogger("touchstone.worker")

POLL_S = 0.3
"""Seconds between two looks at chunks that others work on."""
TELL_S = 1.0
"""Seconds between two notes of progress in the database."""


class Worker:
    """One process that works on chunks, one at a time.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self.database = Database(settings.database)
        self.store: Store = open_store(settings, self.database)
        self.blobs = Blobs(settings.blobs)
        self.doorbell = Doorbell(settings.broker_url.get_secret_value(), self.database)
        self.warm = WarmBase()

    def work(self, chunk_id: str) -> None:
        """Does what a chunk asks for, if it is free. The one place where faults of the service's work are caught."""
        lease = leases.claim(self.database, chunk_id, self.name, self.settings.lease_s)
        if lease is None:
            return
        with Held(self.database, lease, self.settings.lease_s) as held:
            try:
                _Drive(self, held).run() if lease.kind == "drive" else self._observe(held)
            except LeaseLost as error:
                log.warning("chunk %s: %s", lease.chunk_id, error)
            except ScanCancelled:
                self._end(lease, "canceled")
            except InputError as error:
                self._end(lease, "failed", error_code=error.code, error_message=str(error))
            except Exception as error:
                self._fault(lease, error)

    def close(self) -> None:
        """Ends the warm host and closes all connections."""
        self.warm.end()
        self.doorbell.close()
        self.database.close()

    @contextmanager
    def observing(
        self, pair: Pair, dtype: str, watch: Callable[[], None], kind: Callable[..., Observer] = Observer
    ) -> Iterator[Observer]:
        """An observer of the pair whose base's host outlives it."""
        device = self.device()

        def start(role: Role) -> Host:
            return self.warm.start(pair.host_spec(role, dtype, device, self.settings), role, watch)

        observer = kind(
            pair.models(),
            dtype,
            self.store,
            start,
            resident=pair.resident(dtype, self.settings),
            watch=watch,
            end_host=self.warm.give_back,
        )
        try:
            yield observer
        finally:
            observer.end()

    def device(self) -> str:
        """What hosts compute on."""
        return preferred_device() if self.settings.device == "auto" else self.settings.device

    def dtype(self) -> str:
        """Of the scans that this worker begins."""
        return preferred_dtype(self.device()) if self.settings.dtype == "auto" else self.settings.dtype

    def open(self, found: Scan, watch: Callable[[], None]) -> Pair:
        """The pair of a scan whose references are pinned, fetched and through the gate."""
        subject, base = Pinned.model_validate(found.subject_pin), Pinned.model_validate(found.base_pin)
        model, base_path = (fetch(pinned, self.settings, watch) for pinned in (subject, base))
        pair = open_pair(model, base_path, _name(base))
        for then, now in ((found.subject_digest, pair.subject.card), (found.base_digest, pair.base.card)):
            if then not in (None, now.file_digest):
                raise ReferenceMoved(
                    f"{now.reference!r} is not what was checked: its files have digest {now.file_digest}, the scan "
                    f"began with {then}; submit it again once nothing writes to it"
                )
        return pair

    def _observe(self, held: Held) -> None:
        """A piece of somebody's scan."""
        with self.database.reading() as session:
            chunk, found = session.get_one(Chunk, held.lease.chunk_id), session.get_one(Scan, held.lease.scan_id)
        if found.state in ENDED or chunk.body is None:
            return
        role: Role = "subject" if chunk.role == "subject" else "base"
        try:
            with self.observing(self.open(found, held.watch), str(found.dtype), held.watch) as observer:
                observer.compute(role, unpack_requests(chunk.body))
        except (HostError, InputError) as error:
            with self.database.writing() as session:
                leases.fail(session, held.lease, str(error))
            return
        with self.database.writing() as session:
            leases.commit(session, held.lease)

    def _end(self, lease: leases.Lease, state: Any, **values: Any) -> None:
        """Ends a scan that this lease drives; a chunk of observations is dropped with its scan by its driver."""
        if lease.kind == "drive":
            with self.database.writing() as session:
                scans.end(session, lease, state, **values)

    def _fault(self, lease: leases.Lease, error: Exception) -> None:
        """A fault of the machine: tried again, as often as leases allow."""
        known = isinstance(error, TouchstoneError)
        log.error("chunk %s: %s", lease.chunk_id, error, exc_info=not known)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        try:
            with self.database.writing() as session:
                leases.retry(session, lease, reason[:1000])
        except MachineError as gone:
            log.error("chunk %s waits for its lease to end: %s", lease.chunk_id, gone)


class _Drive:
    """One scan, from its references to its report."""

    def __init__(self, worker: Worker, held: Held) -> None:
        self._worker, self._held = worker, held
        self._database = worker.database
        self._told = 0.0

    def run(self) -> None:
        found = self._read()
        if found.state in ENDED:
            return
        if found.cancel_requested:
            raise ScanCancelled("the scan was cancelled before it began")
        started = time.monotonic()
        pair = self._check(self._resolve(found))
        if not self._reuse():
            report = self._scan(pair, {"gate": round(time.monotonic() - started, 1)})
            self._keep(report)

    def _read(self) -> Scan:
        with self._database.reading() as session:
            return session.get_one(Scan, self._held.lease.scan_id)

    def _move(self, state: Any, **values: Any) -> None:
        """Into a state, as long as this worker drives the scan."""
        with self._database.writing() as session:
            if not scans.move(session, self._held.lease, state, **values):
                raise LeaseLost("the scan has ended, or is driven by another worker")

    def _resolve(self, found: Scan) -> Scan:
        """Pins what the references name now; what was pinned by an earlier attempt stays pinned."""
        if found.subject_pin and found.base_pin:
            return found
        self._move("resolving", started=clock())
        settings = self._worker.settings
        subject = resolve(found.model, settings)
        reference = found.base or infer_base(subject, fetch(subject, settings, self._held.watch), settings)
        base = resolve(reference, settings)
        self._move(
            "resolving",
            subject_pin=subject.model_dump(),
            subject_revision=subject.revision,
            base_pin=base.model_dump(),
            base=reference,
        )
        return self._read()

    def _check(self, found: Scan) -> Pair:
        self._move("checking")
        pair = self._worker.open(found, self._held.watch)
        subject, base = pair.subject.card, pair.base.card
        self._move(
            "checking",
            dtype=found.dtype or self._worker.dtype(),
            subject_digest=subject.file_digest,
            base_digest=base.file_digest,
            subject_content=subject.content_digest,
            base_content=base.content_digest,
        )
        return pair

    def _reuse(self) -> bool:
        """Whether an earlier report on the same contents answers; the scan then ends with it."""
        with self._database.writing() as session:
            found = session.get_one(Scan, self._held.lease.scan_id)
            same = scans.same_scan(session, found)
            if same is None:
                return False
            report = read_report(self._worker.blobs, str(same.report_digest))
            verdict = decision_on(session, report, policy_named(session, found.policy)).verdict
            return scans.end(
                session,
                self._held.lease,
                "succeeded",
                report_digest=same.report_digest,
                reused_from=same.id,
                verdict=verdict,
            )

    def _scan(self, pair: Pair, seconds: Mapping[str, float]) -> Report:
        found, suite = self._read(), SUITES[self._read().suite]
        self._move("running")
        expected = TypeAdapter(tuple[ExpectedBehaviour, ...]).validate_python(found.expected)
        kind = partial(_Shared, worker=self._worker, held=self._held)
        with self._worker.observing(pair, str(found.dtype), self._held.watch, kind) as observer:
            tracker = Tracker(observer, suite, lambda name: self._move("running", phase=name), self._tell)
            return scan(
                pair,
                observer,
                suite,
                seed=found.seed,
                expected=expected,
                announce=tracker.announce,
                seconds=dict(seconds),
            )

    def _tell(self, reading: Reading) -> None:
        """Notes how far the scan is, now and then."""
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            self._move("running", done=reading.done, total=reading.total, eta_s=reading.eta_s)

    def _keep(self, report: Report) -> None:
        """The report first, then the row: a row without its report is never seen."""
        self._move("deciding")
        data = report.model_dump_json(indent=1).encode()
        digest = self._worker.blobs.put(data)
        with self._database.writing() as session:
            found = session.get_one(Scan, self._held.lease.scan_id)
            scans.keep_report(session, digest, found.id, len(data))
            verdict = decision_on(session, report, policy_named(session, found.policy)).verdict
            if not scans.end(session, self._held.lease, "succeeded", report_digest=digest, verdict=verdict):
                raise LeaseLost("the report came too late: another worker drives the scan")


class _Shared(Observer):
    """An observer that lets other workers help where a plan is more than one message."""

    def __init__(self, *arguments: Any, worker: Worker, held: Held, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._worker, self._held = worker, held

    def compute(self, role: Role, requests: Sequence[Request]) -> dict[str, Arrays]:
        parts = list(in_messages(requests))
        if len(parts) == 1:
            return super().compute(role, requests)
        keys = self._enqueue(role, parts)
        while self._help():
            pass
        while self._waits(keys):
            self._watch()
            time.sleep(POLL_S)
            while self._help():
                pass
        known = self._store.get([request.key() for request in requests])
        return {key: unpack(data) for key, data in known.items()}

    def _enqueue(self, role: Role, parts: Sequence[Sequence[Request]]) -> list[str]:
        """Rows for all parts; those that an earlier attempt made are taken as they are."""
        keys = [chunk_key([request.key() for request in part]) for part in parts]
        with self._worker.database.writing() as session:
            fresh = scans.enqueue(
                session,
                self._held.lease.scan_id,
                role,
                {key: pack_requests(part) for key, part in zip(keys, parts, strict=True)},
            )
        self._worker.doorbell.ring(fresh[1:])  # the first is ours
        return keys

    def _help(self) -> bool:
        """Takes one piece that nobody works on; whether there was one."""
        worker = self._worker
        lease = leases.claim_next(worker.database, self._held.lease.scan_id, worker.name, worker.settings.lease_s)
        if lease is None:
            return False
        with worker.database.reading() as session:
            chunk = session.get_one(Chunk, lease.chunk_id)
        with Held(worker.database, lease, worker.settings.lease_s, self._watch):
            try:
                role: Role = "subject" if chunk.role == "subject" else "base"
                super().compute(role, unpack_requests(chunk.body or b""))
            except HostError as error:
                with worker.database.writing() as session:
                    leases.fail(session, lease, str(error))
                return True
        with worker.database.writing() as session:
            leases.commit(session, lease)
        return True

    def _waits(self, keys: Sequence[str]) -> bool:
        """Whether others still work on one of the chunks.

        Raises:
            HostError: if one failed.
        """
        with self._worker.database.reading() as session:
            failed = scans.chunk_errors(session, self._held.lease.scan_id, keys)
            waits = scans.open_chunks(session, self._held.lease.scan_id, keys)
        if failed:
            raise HostError(f"a part of what was asked could not be observed: {next(iter(failed.values()))}")
        return waits > 0


def _name(base: Pinned) -> str | None:
    """The name that adapters know a base by, where it is not its directory's."""
    return base.reference.removeprefix("hf:").partition("@")[0] if base.kind == "hub" else None
