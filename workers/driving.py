"""One scan, from its references to its report.

Driving is replaying: the detectors run from the start, and whatever is stored costs nothing. So a driver that dies is
replaced by another, which finds everything that was observed. Each step is told to the database under the driver's
lease; a driver whose lease was lost changes nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pydantic import TypeAdapter

from app.core import scans
from app.core.database import clock
from app.core.deciding import read_report, verdict_to_write
from app.core.registries.bases import infer_base
from app.core.registries.resolving import Pinned, fetch, resolve
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.tables import ENDED, Scan, State
from detectors.errors import DatabaseUnavailable, ReferenceMoved, ScanCancelled, StoreError
from detectors.findings import ExpectedBehaviour
from detectors.report import Report
from detectors.suites import SUITES
from workers.holding import Held
from workers.progress import Reading, Tracker
from workers.scan import Pair, open_pair, scan
from workers.sharing import Place, SharedObserver

TELL_S = 1.0
"""Seconds between two notes of progress in the database."""


class Means(Protocol):
    """What a driver needs of its worker."""

    settings: Settings
    place: Place
    blobs: Blobs

    def dtype(self) -> str:
        """Of the scans that this worker begins."""

    def shared_observer(self, pair: Pair, dtype: str, held: Held) -> AbstractContextManager[SharedObserver]:
        """An observer whose hosts do not outlive the context, but for a warm base."""


class Drive:
    """One scan, driven under a lease."""

    def __init__(self, means: Means, held: Held) -> None:
        self._means, self._held = means, held
        self._database = means.place.database
        self._told = 0.0

    def run(self) -> None:
        """From wherever the scan is to its end.

        Raises:
            InputError: if the models cannot be scanned.
            MachineError: if something broke that another attempt may mend.
            Interruption: if it was cancelled, or the lease lost.
        """
        found = self._read()
        if found.state in ENDED:
            return
        if found.cancel_requested:
            raise ScanCancelled("the scan was cancelled before it began")
        started = time.monotonic()
        pair = self._check(self._resolve(found))
        if not self._reuse():
            self._keep(self._scan(pair, {"gate": round(time.monotonic() - started, 1)}))

    def _read(self) -> Scan:
        with self._database.reading() as session:
            return session.get_one(Scan, self._held.lease.scan_id)

    def _move(self, state: State, **values: Any) -> None:
        with self._database.writing() as session:
            scans.move(session, self._held.lease, state, **values)

    def _resolve(self, found: Scan) -> Scan:
        """Pins what the references name now; what was pinned by an earlier attempt stays pinned."""
        if found.subject_pin and found.base_pin:
            return found
        self._move("resolving", started=clock())
        settings = self._means.settings
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
        pair = open_pinned(found, self._means.settings, self._held.watch)
        subject, base = pair.subject.card, pair.base.card
        self._move(
            "checking",
            dtype=found.dtype or self._means.dtype(),
            subject_digest=subject.file_digest,
            base_digest=base.file_digest,
            subject_content=subject.content_digest,
            base_content=base.content_digest,
        )
        return pair

    def _reuse(self) -> bool:
        """Whether an earlier report on the same contents answers; the scan then ends with it."""
        with self._database.reading() as session:
            same = scans.same_scan(session, session.get_one(Scan, self._held.lease.scan_id))
        if same is None:
            return False
        try:
            report = read_report(self._means.blobs, str(same.report_digest))
        except StoreError:
            return False  # what cannot be read is observed again
        self._end(report, str(same.report_digest), reused_from=same.id)
        return True

    def _scan(self, pair: Pair, seconds: Mapping[str, float]) -> Report:
        found = self._read()
        suite = SUITES[found.suite]
        self._move("running")
        expected = TypeAdapter(tuple[ExpectedBehaviour, ...]).validate_python(found.expected)
        with self._means.shared_observer(pair, str(found.dtype), self._held) as observer:
            tracker = Tracker(observer, suite, lambda name: self._move("running", phase=name), self._tell)
            observer.finish_earlier()
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
        """Notes how far the scan is, now and then; a note that cannot be taken is none."""
        if time.monotonic() - self._told < TELL_S:
            return
        self._told = time.monotonic()
        try:
            self._move("running", done=reading.done, total=reading.total, eta_s=reading.eta_s)
        except DatabaseUnavailable:
            return

    def _keep(self, report: Report) -> None:
        """The report first, then the row: a row without its report is never seen."""
        self._move("deciding")
        data = report.model_dump_json(indent=1).encode()
        self._end(report, self._means.blobs.put(data), size=len(data))

    def _end(self, report: Report, digest: str, size: int | None = None, **values: Any) -> None:
        with self._database.writing() as session:
            found = session.get_one(Scan, self._held.lease.scan_id)
            if size is not None:
                scans.keep_report(session, digest, found.id, size)
            verdict = verdict_to_write(session, report, found.policy)
            values |= {"report_digest": digest, "verdict": verdict, "done": Scan.total}
            scans.end(session, self._held.lease, "succeeded", **values)


def open_pinned(found: Scan, settings: Settings, watch: Callable[[], None]) -> Pair:
    """The pair of a scan whose references are pinned: fetched, and through the gate.

    Raises:
        InputError: what is wrong with either, or between them, or that it is not what the scan began with.
    """
    subject, base = Pinned.model_validate(found.subject_pin), Pinned.model_validate(found.base_pin)
    model, base_path = (fetch(pinned, settings, watch) for pinned in (subject, base))
    pair = open_pair(model, base_path, _name(base))
    for then, now in ((found.subject_digest, pair.subject.card), (found.base_digest, pair.base.card)):
        if then not in (None, now.file_digest):
            raise ReferenceMoved(
                f"{now.reference!r} is not what was checked: its files have digest {now.file_digest}, the scan "
                f"began with {then}; submit it again once nothing writes to it"
            )
    return pair


def _name(base: Pinned) -> str | None:
    """The name that adapters know a base by, where it is not its directory's."""
    return base.reference.removeprefix("hf:").partition("@")[0] if base.kind == "hub" else None
