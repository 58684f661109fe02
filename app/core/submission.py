"""Submitting: a wish is checked, becomes a scan once, and is answered at once where its answer is on file.

A wrong reference fails the request, not a scan hours later. Two requests with one `Idempotency-Key` meet in the table's
primary key: whoever is second finds what the first one made.
"""

from __future__ import annotations

from importlib.metadata import version
from statistics import median

from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import scans
from app.core.database import Database, clock
from app.core.deciding import policy_named, read_report, verdict_to_write
from app.core.dispatch import Doorbell
from app.core.registries.reference import HubReference, parse
from app.core.registries.resolving import Pinned, check, resolve
from app.core.render.visible import visible
from app.core.scans import Wish
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.tables import ENDED, Idempotency, Scan
from detectors.errors import InvalidRequest, TooManyRequests
from detectors.suites import SUITES

RECENT = 20
"""Scans that an estimate of time is drawn from."""
QUOTA_RETRY_S = 30


class Estimate(BaseModel):
    """What can be said of a scan before any model is opened.

    Attributes:
        work: expected work in next-token observations, where candidates come up and none needs confirming.
        contexts: how many contexts are swept.
        model, base: what the references name now; `base` is null where it is to be inferred from the model's files.
        reuses: the scan whose report would answer at once or as soon as the files were looked at.
        minutes: expected time, from the median speed of the `minutes_from` latest scans by this suite, whatever their
            models' size; null where there was none. How fast this model is only a worker can say.
    """

    suite: str
    suite_version: str
    detectors: tuple[str, ...]
    contexts: int
    work: float
    model: Pinned
    base: Pinned | None
    reuses: str | None
    minutes: float | None
    minutes_from: int


class Submissions:
    """Takes wishes.

    Args:
        settings: roots, hubs and quotas.
        database: where scans are kept.
        blobs: where reports are.
        doorbell: tells workers.
    """

    def __init__(self, settings: Settings, database: Database, blobs: Blobs, doorbell: Doorbell) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._doorbell = doorbell

    def accept(self, wish: Wish, key_id: str, token: str | None = None) -> Scan:
        """The scan that a wish makes, or made before under the same token.

        Args:
            key_id: of the API key that asks.
            token: its `Idempotency-Key`.

        Raises:
            InputError: if a reference or the policy cannot be used.
            InvalidRequest: if there is no such suite.
            Conflict: if the token was used for another wish.
            TooManyRequests: if the key has too many scans that have not ended.
        """
        if not self._used(key_id, token):
            self._check(wish)
        return self._enter(wish, key_id, token)

    def foresee(self, wish: Wish) -> Estimate:
        """What `accept` would lead to; nothing is created, and no model is opened.

        Raises:
            InputError: if a reference or the policy cannot be used.
            InvalidRequest: if there is no such suite.
            HubUnavailable: if a hub could not be asked.
        """
        self._check(wish)
        suite = SUITES[wish.suite]
        subject = resolve(wish.model, self._settings)
        base = resolve(wish.base, self._settings) if wish.base is not None else None
        with self._database.reading() as session:
            same = _answered(session, _scan_of(wish), subject, base) if base else None
            speeds = _seconds_a_work(session, wish.suite)
        return Estimate(
            suite=suite.name,
            suite_version=suite.version,
            detectors=suite.detectors,
            contexts=sum(suite.trigger_sweep.families.values()),
            work=suite.work,
            model=subject,
            base=base,
            reuses=same.id if same else None,
            minutes=round(median(speeds) * suite.work / 60, 1) if speeds else None,
            minutes_from=len(speeds),
        )

    def _used(self, key_id: str, token: str | None) -> bool:
        """Whether the wish was checked before, under this token; what it names may be gone by now."""
        if token is None:
            return False
        with self._database.reading() as session:
            return session.get(Idempotency, (key_id, token)) is not None

    def _check(self, wish: Wish) -> None:
        if wish.suite not in SUITES:
            raise InvalidRequest(f"there is no suite `{visible(wish.suite, 100)}`; name one of {', '.join(SUITES)}")
        with self._database.reading() as session:
            policy_named(session, wish.policy)
        for reference in (wish.model, wish.base):
            if reference is not None:
                check(reference, self._settings)

    def _enter(self, wish: Wish, key_id: str, token: str | None) -> Scan:
        with self._database.writing() as session:
            scan, chunk = scans.submit(session, wish, key_id, token)
            if chunk is None:
                return scan
            if self._answer(session, scan):
                chunk.state = "done"
                return scan
            self._check_quota(session, key_id)
        self._doorbell.ring([(chunk.id, chunk.queue)])
        return scan

    def _check_quota(self, session: Session, key_id: str) -> None:
        mine = select(func.count()).select_from(Scan).where(Scan.key_id == key_id, Scan.state.not_in(ENDED))
        limit = self._settings.open_scans_per_key
        if (session.scalar(mine) or 0) > limit:
            raise TooManyRequests(
                f"this key has {limit} scans that wait or run, which is the limit; submit again when one has ended",
                retry_after_s=QUOTA_RETRY_S,
            )

    def _answer(self, session: Session, scan: Scan) -> bool:
        """Ends a scan of two commits with a report that is on file; whether there was one."""
        subject, base = (_immovable(reference) for reference in (scan.model, scan.base))
        same = _answered(session, scan, subject, base) if subject and base else None
        if same is None:
            return False
        report = read_report(self._blobs, str(same.report_digest))
        scan.verdict = verdict_to_write(session, report, scan.policy)
        scan.state, scan.report_digest, scan.reused_from = "succeeded", same.report_digest, same.id
        scan.subject_pin, scan.base_pin = same.subject_pin, same.base_pin
        scan.subject_revision = same.subject_revision
        scan.subject_digest, scan.base_digest = same.subject_digest, same.base_digest
        scan.started = scan.ended = session.scalar(select(clock()))
        return True


def _immovable(reference: str | None) -> Pinned | None:
    """What a reference to a commit is pinned to, without asking the hub."""
    named = parse(reference) if reference else None
    if reference is None or not isinstance(named, HubReference) or not named.immovable:
        return None
    return Pinned(kind="hub", reference=reference, pinned=str(named), revision=str(named.revision))


def _answered(session: Session, scan: Scan, subject: Pinned, base: Pinned) -> Scan | None:
    """The scan whose report answers this one, where the contents of the same files were seen before."""
    pins = ((Scan.subject_pin, subject), (Scan.base_pin, base))
    seen = session.scalars(
        select(Scan)
        .where(
            *(
                column[name].as_string() == getattr(pin, name)
                for column, pin in pins
                for name in ("pinned", "revision")
            ),
            Scan.subject_content.is_not(None),
            Scan.base_content.is_not(None),
        )
        .order_by(Scan.created.desc())
        .limit(1)
    ).one_or_none()
    if seen is None:
        return None
    scan.subject_content, scan.base_content = seen.subject_content, seen.base_content
    return scans.same_scan(session, scan)


def _scan_of(wish: Wish) -> Scan:
    """As much of a scan as tells whether another is the same."""
    return Scan(
        id=scans.new_id(),
        suite_digest=SUITES[wish.suite].digest(),
        seed=wish.seed,
        scanner_version=version("touchstone"),
        expected=list(wish.expected),
    )


def _seconds_a_work(session: Session, suite: str) -> list[float]:
    """How long a unit of work took in the latest whole scans by a suite."""
    whole = (Scan.suite == suite, Scan.state == "succeeded", Scan.reused_from.is_(None), Scan.started.is_not(None))
    latest = select(Scan.ended - Scan.started).where(*whole).order_by(Scan.created.desc()).limit(RECENT)
    return [seconds / SUITES[suite].work for seconds in session.scalars(latest) if seconds]
